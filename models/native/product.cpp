// Polynomials of up to third order in A, atom by atom and channel by channel, with weights of the atom's species:
//
//   B[m, i, c] = sum_t w[species(i), t, c] A[a, i, c] A[b, i, c] A[d, i, c]      over the terms t = (m, a, b, d)
//
// An index equal to N_IN stands for 1, so lower orders are terms too. Terms of equal (m, a, b) form a group, whose sum
// over d is taken first. Included after a generated header that defines REAL, CHANNELS, N_IN, N_OUT, N_TERMS and
// the tables `groups` (of Group) and `last_factor`.

#include <cstdint>
#include <cstring>

// Only the functions are exported: libraries of several kernels are loaded into the same process.
namespace {

constexpr int LANES = lanes(CHANNELS, sizeof(REAL));
typedef REAL vec __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));
constexpr int CHUNKS = CHANNELS / LANES;

static inline vec load(const REAL* p) { return *reinterpret_cast<const vec*>(p); }
static inline void store(REAL* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
static inline void add(REAL* p, vec v) { *reinterpret_cast<vec*>(p) += v; }

struct Factors {  // A of an atom for a chunk of channels, and the constant behind it
    vec x[N_IN + 1];
    Factors(const REAL* A, int64_t T, REAL constant) {
        for (int m = 0; m < N_IN; ++m) x[m] = load(A + m * T * CHANNELS);
        x[N_IN] = vec{} + constant;
    }
};

}  // namespace

#define FOR_ATOMS_AND_CHUNKS                                                   \
    for (int q = 0; q < CHUNKS; ++q)                                           \
        for (int64_t i = 0, at = q * LANES; i < T; ++i, at += CHANNELS)

extern "C" void product(int64_t T, const REAL* A, const REAL* w, const int64_t* species, REAL* B) {
    FOR_ATOMS_AND_CHUNKS {
        const Factors f(A + at, T, 1);
        const REAL* w_i = w + species[i] * N_TERMS * CHANNELS + q * LANES;
        vec result[N_OUT] = {};
        for (const Group& group : groups) {
            vec inner = {};
            for (int t = group.first; t < group.end; ++t) inner += load(w_i + t * CHANNELS) * f.x[last_factor[t]];
            result[group.out] += f.x[group.a] * f.x[group.b] * inner;
        }
        for (int m = 0; m < N_OUT; ++m) store(B + m * T * CHANNELS + at, result[m]);
    }
}

// Derivatives of <g, B>: g_A is written, g_w (may be null) is added to.
extern "C" void product_backward(int64_t T, const REAL* g, const REAL* A, const REAL* w, const int64_t* species,
                                 REAL* g_A, REAL* g_w) {
    FOR_ATOMS_AND_CHUNKS {
        const Factors f(A + at, T, 1);
        const int64_t at_w = species[i] * N_TERMS * CHANNELS + q * LANES;
        vec g_x[N_IN + 1] = {};
        for (const Group& group : groups) {
            const vec pair = f.x[group.a] * f.x[group.b];
            const vec g_out = load(g + group.out * T * CHANNELS + at), g_pair = g_out * pair;
            vec inner = {};
            for (int t = group.first; t < group.end; ++t) {
                const vec w_t = load(w + at_w + t * CHANNELS);
                inner += w_t * f.x[last_factor[t]];
                g_x[last_factor[t]] += g_pair * w_t;
                if (g_w) add(g_w + at_w + t * CHANNELS, g_pair * f.x[last_factor[t]]);
            }
            g_x[group.a] += g_out * inner * f.x[group.b];
            g_x[group.b] += g_out * inner * f.x[group.a];
        }
        for (int m = 0; m < N_IN; ++m) store(g_A + m * T * CHANNELS + at, g_x[m]);
    }
}

// Derivatives of <v, g_A> with g_A as above: the derivative of B along v. g_g and g_A are written, g_w is added to.
extern "C" void product_backward_twice(int64_t T, const REAL* v, const REAL* g, const REAL* A, const REAL* w,
                                       const int64_t* species, REAL* g_g, REAL* g_A, REAL* g_w) {
    FOR_ATOMS_AND_CHUNKS {
        const Factors f(A + at, T, 1), d(v + at, T, 0);
        const int64_t at_w = species[i] * N_TERMS * CHANNELS + q * LANES;
        vec g_x[N_IN + 1] = {}, along[N_OUT] = {};
        for (const Group& group : groups) {
            const vec pair = f.x[group.a] * f.x[group.b];
            const vec d_pair = d.x[group.a] * f.x[group.b] + f.x[group.a] * d.x[group.b];
            const vec g_out = load(g + group.out * T * CHANNELS + at);
            vec inner = {}, d_inner = {};
            for (int t = group.first; t < group.end; ++t) {
                const int c = last_factor[t];
                const vec w_t = load(w + at_w + t * CHANNELS);
                inner += w_t * f.x[c];
                d_inner += w_t * d.x[c];
                g_x[c] += g_out * d_pair * w_t;
                add(g_w + at_w + t * CHANNELS, g_out * (d_pair * f.x[c] + pair * d.x[c]));
            }
            along[group.out] += d_pair * inner + pair * d_inner;
            g_x[group.a] += g_out * (d.x[group.b] * inner + f.x[group.b] * d_inner);
            g_x[group.b] += g_out * (d.x[group.a] * inner + f.x[group.a] * d_inner);
        }
        for (int m = 0; m < N_OUT; ++m) store(g_g + m * T * CHANNELS + at, along[m]);
        for (int m = 0; m < N_IN; ++m) store(g_A + m * T * CHANNELS + at, g_x[m]);
    }
}
