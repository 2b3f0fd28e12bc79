// Message of a path on a CPU: sum over neighbours and Clebsch-Gordan coupling in a single pass, nothing stored per pair.
//
//   out[l3 m3, i, (p, c)] = sum_{m1 m2} CG^{l3 m3}_{l1 m1, l2 m2} sum_k R[i, k, p, c] Y[i, k, l1 m1] h[l2 m2, j(i, k), c]
//   R[i, k, p, c] = sum_x X[i, k, x] W[x, p, c]
//
// for the couplings p = (l1, l2) -> l3. A slot whose X is all zeros is outside the cut-off or padding, and is skipped.
// There are T receivers, the first of N nodes.
// Included after a generated header that defines REAL, CHANNELS, N_RADIAL, N_HARMONICS, N_SOURCE, N_COUPLINGS,
// N_SUMS (components summed over neighbours, for a channel), N_ROWS (components of the messages), the list
// BLOCKS(F) of F(l1, l2, couplings, first coupling, first sum) and the tables `coupled`, `rows`.

#include <cstdint>
#include <cstring>
#include <vector>

// Only the functions are exported: libraries of several kernels are loaded into the same process.
namespace {

constexpr int LANES = lanes(CHANNELS, sizeof(REAL));
typedef REAL vec __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));
constexpr int CHUNKS = CHANNELS / LANES;
constexpr int PAIRS = N_RADIAL > 16 ? 4 : 1;  // neighbours processed together, so that large weights are loaded less often

static inline vec load(const REAL* p) { return *reinterpret_cast<const vec*>(p); }
static inline void store(REAL* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
static inline void add(REAL* p, vec v) { *reinterpret_cast<vec*>(p) += v; }
static inline REAL total(vec v) {
    REAL sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += v[lane];
    return sum;
}

constexpr REAL nothing[N_HARMONICS + N_RADIAL] = {};

struct Neighbours {  // of a receiver within the cut-off, padded to a multiple of PAIRS by slots of zeros
    std::vector<const REAL *> y, x, v_y, v_x;
    std::vector<int64_t> slot, atom;
    // v_Y and v_X are directions of Y and X, zero if null; a slot counts where X or its direction is not zero
    void find(int64_t i, int64_t K, const REAL* Y, const REAL* X, const int64_t* neighbours, const REAL* v_Y = nullptr,
              const REAL* v_X = nullptr) {
        y.clear(), x.clear(), v_y.clear(), v_x.clear(), slot.clear(), atom.clear();
        for (int64_t e = i * K; e < (i + 1) * K; ++e) {
            const REAL *x_e = X + e * N_RADIAL, *v_e = v_X ? v_X + e * N_RADIAL : nothing;
            bool counts = false;
            for (int n = 0; n < N_RADIAL; ++n) counts |= x_e[n] != 0 || v_e[n] != 0;
            if (counts) push(x_e, Y + e * N_HARMONICS, v_e, v_Y ? v_Y + e * N_HARMONICS : nothing, e, neighbours[e]);
        }
        while (x.size() % PAIRS) push(nothing, nothing, nothing, nothing, -1, i);
    }

   private:
    void push(const REAL* x_e, const REAL* y_e, const REAL* v_x_e, const REAL* v_y_e, int64_t e, int64_t j) {
        x.push_back(x_e), y.push_back(y_e), v_x.push_back(v_x_e), v_y.push_back(v_y_e);
        slot.push_back(e), atom.push_back(j);
    }
};

static inline void gather(const Neighbours& all, size_t k, const REAL* source, int64_t N, vec (*h)[N_SOURCE]) {
    for (int b = 0; b < PAIRS; ++b)
        for (int m = 0; m < N_SOURCE; ++m) h[b][m] = load(source + (m * N + all.atom[k + b]) * CHANNELS);
}

static inline void radial(const REAL* const* x, const REAL* w, vec (*R)[PAIRS]) {
    for (int p = 0; p < N_COUPLINGS; ++p) {
        vec sum[PAIRS] = {};
        for (int n = 0; n < N_RADIAL; ++n) {
            const vec w_n = load(w + (n * N_COUPLINGS + p) * CHANNELS);
            for (int b = 0; b < PAIRS; ++b) sum[b] += x[b][n] * w_n;
        }
        for (int b = 0; b < PAIRS; ++b) R[p][b] = sum[b];
    }
}

struct Several {  // PAIRS neighbours, one chunk of channels
    const REAL *const *x, *const *y;
    vec h[PAIRS][N_SOURCE], R[N_COUPLINGS][PAIRS];
    Several(const Neighbours& all, size_t k, const REAL* source, const REAL* w, int64_t N) : x(&all.x[k]), y(&all.y[k]) {
        gather(all, k, source, N, h);
        radial(x, w, R);
    }
};

struct Directions {  // of Y, X, R = X W and h of the same neighbours
    const REAL *const *x, *const *y;
    vec h[PAIRS][N_SOURCE] = {}, R[N_COUPLINGS][PAIRS];
    Directions(const Neighbours& all, size_t k, const REAL* source, const REAL* w, int64_t N)
        : x(&all.v_x[k]), y(&all.v_y[k]) {
        if (source) gather(all, k, source, N, h);
        radial(x, w, R);
    }
};

struct Derivatives {  // for PAIRS neighbours; x and y are summed over chunks of channels
    vec x[PAIRS][N_RADIAL] = {}, y[PAIRS][N_HARMONICS] = {}, h[PAIRS][N_SOURCE], R[N_COUPLINGS][PAIRS];
};

template <int L1, int L2, int N, int P0, int S0>
static inline void sum_block(const Several& s, vec* sums) {
    for (int n = 0; n < N; ++n)
        for (int m2 = 0; m2 < 2 * L2 + 1; ++m2) {
            vec Rh[PAIRS];
            for (int b = 0; b < PAIRS; ++b) Rh[b] = s.R[P0 + n][b] * s.h[b][L2 * L2 + m2];
            for (int m1 = 0; m1 < 2 * L1 + 1; ++m1) {
                vec& sum = sums[S0 + (m1 * N + n) * (2 * L2 + 1) + m2];
                for (int b = 0; b < PAIRS; ++b) sum += s.y[b][L1 * L1 + m1] * Rh[b];
            }
        }
}

template <int L1, int L2, int N, int P0, int S0>
static inline void differentiate_block(const Several& s, const vec* g_sums, Derivatives& d) {
    for (int n = 0; n < N; ++n) {
        vec g_R[PAIRS] = {};
        for (int m2 = 0; m2 < 2 * L2 + 1; ++m2) {
            vec Rh[PAIRS], g_Rh[PAIRS] = {};
            for (int b = 0; b < PAIRS; ++b) Rh[b] = s.R[P0 + n][b] * s.h[b][L2 * L2 + m2];
            for (int m1 = 0; m1 < 2 * L1 + 1; ++m1) {
                const vec g = g_sums[S0 + (m1 * N + n) * (2 * L2 + 1) + m2];
                for (int b = 0; b < PAIRS; ++b) {
                    d.y[b][L1 * L1 + m1] += g * Rh[b];
                    g_Rh[b] += s.y[b][L1 * L1 + m1] * g;
                }
            }
            for (int b = 0; b < PAIRS; ++b) {
                g_R[b] += g_Rh[b] * s.h[b][L2 * L2 + m2];
                d.h[b][L2 * L2 + m2] += g_Rh[b] * s.R[P0 + n][b];
            }
        }
        for (int b = 0; b < PAIRS; ++b) d.R[P0 + n][b] = g_R[b];
    }
}

// Sums of messages with one of Y, X and h replaced by its direction, and their derivatives.
template <int L1, int L2, int N, int P0, int S0>
static inline void differentiate_block_twice(const Several& s, const Directions& v, const vec* g_sums, vec* sums,
                                             Derivatives& d, vec (*g_v_R)[PAIRS]) {
    for (int n = 0; n < N; ++n) {
        vec g_R[PAIRS] = {}, g_v[PAIRS] = {};
        for (int m2 = 0; m2 < 2 * L2 + 1; ++m2) {
            vec Rh[PAIRS], v_Rh[PAIRS], g_Rh[PAIRS] = {}, g_v_Rh[PAIRS] = {};
            for (int b = 0; b < PAIRS; ++b) {
                const vec h = s.h[b][L2 * L2 + m2];
                Rh[b] = s.R[P0 + n][b] * h;
                v_Rh[b] = v.R[P0 + n][b] * h + s.R[P0 + n][b] * v.h[b][L2 * L2 + m2];
            }
            for (int m1 = 0; m1 < 2 * L1 + 1; ++m1) {
                const int at = S0 + (m1 * N + n) * (2 * L2 + 1) + m2;
                const vec g = g_sums[at];
                vec sum = sums[at];
                for (int b = 0; b < PAIRS; ++b) {
                    const REAL y = s.y[b][L1 * L1 + m1], v_y = v.y[b][L1 * L1 + m1];
                    sum += v_y * Rh[b] + y * v_Rh[b];
                    d.y[b][L1 * L1 + m1] += g * v_Rh[b];
                    g_Rh[b] += v_y * g;
                    g_v_Rh[b] += y * g;
                }
                sums[at] = sum;
            }
            for (int b = 0; b < PAIRS; ++b) {
                const vec h = s.h[b][L2 * L2 + m2];
                g_R[b] += g_Rh[b] * h + g_v_Rh[b] * v.h[b][L2 * L2 + m2];
                g_v[b] += g_v_Rh[b] * h;
                d.h[b][L2 * L2 + m2] += g_Rh[b] * s.R[P0 + n][b] + g_v_Rh[b] * v.R[P0 + n][b];
            }
        }
        for (int b = 0; b < PAIRS; ++b) d.R[P0 + n][b] = g_R[b], g_v_R[P0 + n][b] = g_v[b];
    }
}

static inline void differentiate_radial(const Several& s, const REAL* w, REAL* g_w, Derivatives& d) {
    for (int n = 0; n < N_RADIAL; ++n)
        for (int p = 0; p < N_COUPLINGS; ++p) {
            const int64_t at = (n * N_COUPLINGS + p) * CHANNELS;
            const vec w_n = load(w + at);
            vec g = {};
            for (int b = 0; b < PAIRS; ++b) {
                d.x[b][n] += d.R[p][b] * w_n;
                g += s.x[b][n] * d.R[p][b];
            }
            if (g_w) add(g_w + at, g);
        }
}

static inline void clear(REAL* table, int64_t row, int64_t width) {
    std::memset(table + row * width, 0, width * sizeof(REAL));
}

static inline int64_t place(const Row& row, int64_t T, int64_t i) {  // index of a row of the messages, first channel
    return ((row.before * T + i * row.width) + row.within) * CHANNELS;
}

}  // namespace

// Every element of `out` is written.
extern "C" void message(int64_t T, int64_t K, int64_t N, const REAL* Y, const REAL* X, const REAL* W, const REAL* h,
                        const int64_t* neighbours, REAL* out) {
    Neighbours all;
    for (int64_t i = 0; i < T; ++i) {
        all.find(i, K, Y, X, neighbours);
        for (int q = 0; q < CHANNELS; q += LANES) {
            vec sums[N_SUMS] = {}, message[N_ROWS] = {};
            for (size_t k = 0; k < all.x.size(); k += PAIRS) {
                const Several several(all, k, h + q, W + q, N);
#define F(L1, L2, N, P0, S0) sum_block<L1, L2, N, P0, S0>(several, sums);
                BLOCKS(F)
#undef F
            }
            for (const Coupled& c : coupled) message[c.row] += c.coefficient * sums[c.sum];
            for (int r = 0; r < N_ROWS; ++r) store(out + place(rows[r], T, i) + q, message[r]);
        }
    }
}

// Derivatives of <g, message>: every element of g_Y and g_X is written, g_h and g_W are added to; any of them may be null.
extern "C" void message_backward(int64_t T, int64_t K, int64_t N, const REAL* g, const REAL* Y, const REAL* X,
                                 const REAL* W, const REAL* h, const int64_t* neighbours, REAL* g_Y, REAL* g_X,
                                 REAL* g_h, REAL* g_W) {
    Neighbours all;
    for (int64_t i = 0; i < T; ++i) {
        all.find(i, K, Y, X, neighbours);
        if (g_Y) clear(g_Y, i, K * N_HARMONICS);
        if (g_X) clear(g_X, i, K * N_RADIAL);
        if (all.x.empty()) continue;
        vec g_sums[CHUNKS][N_SUMS] = {};
        for (int q = 0; q < CHUNKS; ++q)
            for (const Coupled& c : coupled) g_sums[q][c.sum] += c.coefficient * load(g + place(rows[c.row], T, i) + q * LANES);
        for (size_t k = 0; k < all.x.size(); k += PAIRS) {
            Derivatives d;
            for (int q = 0; q < CHUNKS; ++q) {
                const Several several(all, k, h + q * LANES, W + q * LANES, N);
                std::memset(static_cast<void*>(d.h), 0, sizeof(d.h));
#define F(L1, L2, N, P0, S0) differentiate_block<L1, L2, N, P0, S0>(several, g_sums[q], d);
                BLOCKS(F)
#undef F
                differentiate_radial(several, W + q * LANES, g_W ? g_W + q * LANES : nullptr, d);
                for (int b = 0; b < PAIRS && g_h; ++b)
                    for (int m = 0; m < N_SOURCE; ++m) add(g_h + (m * N + all.atom[k + b]) * CHANNELS + q * LANES, d.h[b][m]);
            }
            for (int b = 0; b < PAIRS && all.slot[k + b] >= 0; ++b) {
                for (int m = 0; m < N_HARMONICS && g_Y; ++m) g_Y[all.slot[k + b] * N_HARMONICS + m] += total(d.y[b][m]);
                for (int n = 0; n < N_RADIAL && g_X; ++n) g_X[all.slot[k + b] * N_RADIAL + n] += total(d.x[b][n]);
            }
        }
    }
}

// The derivative of message_backward. With a direction v of each of g_Y, g_X and g_h (null: zero),
//
//   S = <v_Y, g_Y> + <v_X, g_X> + <v_h, g_h> = <g, message(v_Y, X, h) + message(Y, v_X, h) + message(Y, X, v_h)>,
//
// because the message is linear in each argument. Derivatives of S: every element of g_g, g_Y and g_X is written, g_W
// and g_h are added to. A single pass over the neighbours, in which R and the sums are computed once.
extern "C" void message_backward_twice(int64_t T, int64_t K, int64_t N, const REAL* v_Y, const REAL* v_X,
                                       const REAL* v_h, const REAL* g, const REAL* Y, const REAL* X, const REAL* W,
                                       const REAL* h, const int64_t* neighbours, REAL* g_g, REAL* g_Y, REAL* g_X,
                                       REAL* g_W, REAL* g_h) {
    Neighbours all;
    for (int64_t i = 0; i < T; ++i) {
        all.find(i, K, Y, X, neighbours, v_Y, v_X);
        clear(g_Y, i, K * N_HARMONICS);
        clear(g_X, i, K * N_RADIAL);
        vec g_sums[CHUNKS][N_SUMS] = {}, sums[CHUNKS][N_SUMS] = {};
        for (int q = 0; q < CHUNKS && !all.x.empty(); ++q)
            for (const Coupled& c : coupled) g_sums[q][c.sum] += c.coefficient * load(g + place(rows[c.row], T, i) + q * LANES);
        for (size_t k = 0; k < all.x.size(); k += PAIRS) {
            Derivatives d;
            for (int q = 0; q < CHUNKS; ++q) {
                const REAL* w = W + q * LANES;
                const Several several(all, k, h + q * LANES, w, N);
                const Directions directions(all, k, v_h ? v_h + q * LANES : nullptr, w, N);
                vec g_v_R[N_COUPLINGS][PAIRS];
                std::memset(static_cast<void*>(d.h), 0, sizeof(d.h));
#define F(L1, L2, N, P0, S0) \
    differentiate_block_twice<L1, L2, N, P0, S0>(several, directions, g_sums[q], sums[q], d, g_v_R);
                BLOCKS(F)
#undef F
                differentiate_radial(several, w, g_W + q * LANES, d);
                for (int n = 0; n < N_RADIAL; ++n)
                    for (int p = 0; p < N_COUPLINGS; ++p) {
                        vec weight = {};
                        for (int b = 0; b < PAIRS; ++b) weight += directions.x[b][n] * g_v_R[p][b];
                        add(g_W + (n * N_COUPLINGS + p) * CHANNELS + q * LANES, weight);
                    }
                for (int b = 0; b < PAIRS; ++b)
                    for (int m = 0; m < N_SOURCE; ++m) add(g_h + (m * N + all.atom[k + b]) * CHANNELS + q * LANES, d.h[b][m]);
            }
            for (int b = 0; b < PAIRS && all.slot[k + b] >= 0; ++b) {
                for (int m = 0; m < N_HARMONICS; ++m) g_Y[all.slot[k + b] * N_HARMONICS + m] = total(d.y[b][m]);
                for (int n = 0; n < N_RADIAL; ++n) g_X[all.slot[k + b] * N_RADIAL + n] = total(d.x[b][n]);
            }
        }
        for (int q = 0; q < CHUNKS; ++q) {
            vec message[N_ROWS] = {};
            for (const Coupled& c : coupled) message[c.row] += c.coefficient * sums[q][c.sum];
            for (int r = 0; r < N_ROWS; ++r) store(g_g + place(rows[r], T, i) + q * LANES, message[r]);
        }
    }
}
