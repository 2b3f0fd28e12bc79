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
static inline void add(REAL* p, vec v) { *reinterpret_cast<vec*>(p) += v; }
static inline REAL total(vec v) {
    REAL sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += v[lane];
    return sum;
}

struct Neighbours {  // of a receiver within the cut-off, padded to a multiple of PAIRS by slots of zeros
    std::vector<const REAL *> y, x;
    std::vector<int64_t> slot, atom;
    void find(int64_t i, int64_t K, const REAL* Y, const REAL* X, const int64_t* neighbours) {
        static const REAL nothing[N_HARMONICS + N_RADIAL] = {};
        y.clear(), x.clear(), slot.clear(), atom.clear();
        for (int64_t e = i * K; e < (i + 1) * K; ++e) {
            const REAL* x_e = X + e * N_RADIAL;
            bool counts = false;
            for (int n = 0; n < N_RADIAL; ++n) counts |= x_e[n] != 0;
            if (counts) x.push_back(x_e), y.push_back(Y + e * N_HARMONICS), slot.push_back(e), atom.push_back(neighbours[e]);
        }
        while (x.size() % PAIRS) x.push_back(nothing), y.push_back(nothing), slot.push_back(-1), atom.push_back(i);
    }
};

struct Several {  // PAIRS neighbours, one chunk of channels
    const REAL *const *x, *const *y;
    vec h[PAIRS][N_SOURCE], R[N_COUPLINGS][PAIRS];
    Several(const Neighbours& all, size_t k, const REAL* source, const REAL* w, int64_t N) : x(&all.x[k]), y(&all.y[k]) {
        for (int b = 0; b < PAIRS; ++b)
            for (int m = 0; m < N_SOURCE; ++m) h[b][m] = load(source + (m * N + all.atom[k + b]) * CHANNELS);
        for (int p = 0; p < N_COUPLINGS; ++p) {
            vec sum[PAIRS] = {};
            for (int n = 0; n < N_RADIAL; ++n) {
                const vec w_n = load(w + (n * N_COUPLINGS + p) * CHANNELS);
                for (int b = 0; b < PAIRS; ++b) sum[b] += x[b][n] * w_n;
            }
            for (int b = 0; b < PAIRS; ++b) R[p][b] = sum[b];
        }
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

static inline int64_t place(const Row& row, int64_t T, int64_t i) {  // index of a row of the messages, first channel
    return ((row.before * T + i * row.width) + row.within) * CHANNELS;
}

}  // namespace

// Messages are added to `out`.
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
            for (int r = 0; r < N_ROWS; ++r) add(out + place(rows[r], T, i) + q, message[r]);
        }
    }
}

// Derivatives of <g, message> are added to g_Y, g_X, g_h and g_W; any of them may be null.
extern "C" void message_backward(int64_t T, int64_t K, int64_t N, const REAL* g, const REAL* Y, const REAL* X,
                                 const REAL* W, const REAL* h, const int64_t* neighbours, REAL* g_Y, REAL* g_X,
                                 REAL* g_h, REAL* g_W) {
    Neighbours all;
    for (int64_t i = 0; i < T; ++i) {
        all.find(i, K, Y, X, neighbours);
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
