// Spherical harmonics and radial basis of neighbour vectors, and products with their Jacobian from both sides.
//
//   Y_lm(v / r),   B_n(r) = sqrt(2 / c) sin(n pi r / c) / r * u(r / c),   r = |v|, c the cut-off
//
// LANES vectors at a time. sin and cos of n x come from those of x by the recursion f_{n+1} = 2 cos(x) f_n - f_{n-1}.
// Included after a generated header that defines REAL, LANES, N_HARMONICS, N_RADIAL, POWER (of the envelope), CUTOFF,
// SMALLEST (lower bound on r) and the functions
//   harmonics(x, y, z, Y) and gradients(x, y, z, dY): the polynomials Y_lm and their derivatives, dY[3 * lm + axis].

#include <cmath>
#include <cstdint>
#include <cstring>

// Only the functions are exported: libraries of several kernels are loaded into the same process.
namespace {

constexpr REAL PI = 3.14159265358979323846;
constexpr int COSINE_TERMS = sizeof(REAL) == 4 ? 8 : 13;  // of the Taylor series on [0, pi/2], to rounding

struct Radial {  // B_n and dB_n / dr
    vec B[N_RADIAL], dB[N_RADIAL];
};

static inline vec power(vec x, int n) {
    vec result = vec{} + 1;
    for (int k = 0; k < n; ++k) result *= x;
    return result;
}

static inline Radial radial(vec r) {
    Radial out;
    r = r > CUTOFF ? vec{} + CUTOFF : r;  // features are zero there; further out the series below would overflow
    const vec x = r / CUTOFF, half = x * (PI / 2), square = half * half;  // half of pi x, for accuracy at small r
    vec cosine = vec{} + 1, sine = vec{} + 1;  // cos(half) and sin(half) / half, by Horner's scheme
    for (int k = COSINE_TERMS; k > 0; --k) {
        cosine = 1 - cosine * square / REAL((2 * k - 1) * (2 * k));
        sine = 1 - sine * square / REAL((2 * k) * (2 * k + 1));
    }
    sine *= half;
    const vec s_1 = 2 * sine * cosine, c_1 = 1 - 2 * sine * sine;
    const vec x_p = power(x, POWER - 1), left = 1 - x;
    const REAL p = POWER;
    const vec tail = (p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2));
    const auto inside = x < 1;
    const REAL norm = std::sqrt(2 / CUTOFF);
    const vec u = inside ? norm * (1 - x_p * x * tail) / r : vec{};
    const vec du = inside ? -norm * p * (p + 1) * (p + 2) / 2 * x_p * left * left / (CUTOFF * r) - u / r : vec{};
    vec s = s_1, c = c_1, s_before = {}, c_before = vec{} + 1;
    for (int n = 0; n < N_RADIAL; ++n) {
        out.B[n] = s * u;
        out.dB[n] = (n + 1) * PI / CUTOFF * c * u + s * du;
        const vec s_next = 2 * c_1 * s - s_before, c_next = 2 * c_1 * c - c_before;
        s_before = s, c_before = c, s = s_next, c = c_next;
    }
    return out;
}

struct Vectors {  // LANES vectors: direction, length, and whether the length was not clamped
    vec x, y, z, r, free;
    bool any;
    Vectors(const REAL* v, int64_t count) {
        vec a[3] = {};
        for (int lane = 0; lane < LANES; ++lane)
            for (int axis = 0; axis < 3; ++axis) a[axis][lane] = lane < count ? v[3 * lane + axis] : 2 * CUTOFF;
        const vec square = a[0] * a[0] + a[1] * a[1] + a[2] * a[2];
        for (int lane = 0; lane < LANES; ++lane) r[lane] = std::sqrt(square[lane]);
        any = false;
        for (int lane = 0; lane < LANES; ++lane) any |= !(r[lane] >= CUTOFF);
        free = r > SMALLEST ? vec{} + 1 : vec{};
        r = r < SMALLEST ? vec{} + SMALLEST : r;
        x = a[0] / r, y = a[1] / r, z = a[2] / r;
    }
};

}  // namespace

// v, Y, B: (E, 3), (E, N_HARMONICS), (E, N_RADIAL)
extern "C" void features(int64_t E, const REAL* v, REAL* Y, REAL* B) {
    for (int64_t e = 0; e < E; e += LANES) {
        const int64_t count = E - e < LANES ? E - e : LANES;
        const Vectors vectors(v + 3 * e, count);
        if (!vectors.any) {
            std::memset(Y + e * N_HARMONICS, 0, sizeof(REAL) * count * N_HARMONICS);
            std::memset(B + e * N_RADIAL, 0, sizeof(REAL) * count * N_RADIAL);
            continue;
        }
        vec values[N_HARMONICS];
        harmonics(vectors.x, vectors.y, vectors.z, values);
        const Radial basis = radial(vectors.r);
        for (int64_t lane = 0; lane < count; ++lane) {
            for (int m = 0; m < N_HARMONICS; ++m) Y[(e + lane) * N_HARMONICS + m] = values[m][lane];
            for (int n = 0; n < N_RADIAL; ++n) B[(e + lane) * N_RADIAL + n] = basis.B[n][lane];
        }
    }
}

// g_v = g_Y . dY/dv + g_B . dB/dv
extern "C" void features_backward(int64_t E, const REAL* v, const REAL* g_Y, const REAL* g_B, REAL* g_v) {
    for (int64_t e = 0; e < E; e += LANES) {
        const int64_t count = E - e < LANES ? E - e : LANES;
        const Vectors vectors(v + 3 * e, count);
        if (!vectors.any) {
            std::memset(g_v + 3 * e, 0, sizeof(REAL) * count * 3);
            continue;
        }
        vec gradient[3 * N_HARMONICS], along[3] = {}, outward = {};
        gradients(vectors.x, vectors.y, vectors.z, gradient);
        for (int m = 0; m < N_HARMONICS; ++m) {
            vec g = {};
            for (int64_t lane = 0; lane < count; ++lane) g[lane] = g_Y[(e + lane) * N_HARMONICS + m];
            for (int axis = 0; axis < 3; ++axis) along[axis] += g * gradient[3 * m + axis];
        }
        const Radial basis = radial(vectors.r);
        for (int n = 0; n < N_RADIAL; ++n) {
            vec g = {};
            for (int64_t lane = 0; lane < count; ++lane) g[lane] = g_B[(e + lane) * N_RADIAL + n];
            outward += g * basis.dB[n];
        }
        const vec n[3] = {vectors.x, vectors.y, vectors.z};
        const vec radial_part = along[0] * n[0] + along[1] * n[1] + along[2] * n[2];
        for (int axis = 0; axis < 3; ++axis) {
            const vec g = (along[axis] - vectors.free * radial_part * n[axis]) / vectors.r + vectors.free * outward * n[axis];
            for (int64_t lane = 0; lane < count; ++lane) g_v[3 * (e + lane) + axis] = g[lane];
        }
    }
}

// Derivatives of Y and B along t: t_Y = dY/dv . t, t_B = dB/dv . t
extern "C" void features_forward(int64_t E, const REAL* v, const REAL* t, REAL* t_Y, REAL* t_B) {
    for (int64_t e = 0; e < E; e += LANES) {
        const int64_t count = E - e < LANES ? E - e : LANES;
        const Vectors vectors(v + 3 * e, count);
        if (!vectors.any) {
            std::memset(t_Y + e * N_HARMONICS, 0, sizeof(REAL) * count * N_HARMONICS);
            std::memset(t_B + e * N_RADIAL, 0, sizeof(REAL) * count * N_RADIAL);
            continue;
        }
        vec gradient[3 * N_HARMONICS], tangent[3] = {};
        gradients(vectors.x, vectors.y, vectors.z, gradient);
        for (int64_t lane = 0; lane < count; ++lane)
            for (int axis = 0; axis < 3; ++axis) tangent[axis][lane] = t[3 * (e + lane) + axis];
        const vec n[3] = {vectors.x, vectors.y, vectors.z};
        const vec outward = vectors.free * (tangent[0] * n[0] + tangent[1] * n[1] + tangent[2] * n[2]);
        for (int axis = 0; axis < 3; ++axis) tangent[axis] = (tangent[axis] - outward * n[axis]) / vectors.r;
        const Radial basis = radial(vectors.r);
        for (int m = 0; m < N_HARMONICS; ++m) {
            const vec change = tangent[0] * gradient[3 * m] + tangent[1] * gradient[3 * m + 1] + tangent[2] * gradient[3 * m + 2];
            for (int64_t lane = 0; lane < count; ++lane) t_Y[(e + lane) * N_HARMONICS + m] = change[lane];
        }
        for (int k = 0; k < N_RADIAL; ++k) {
            const vec change = outward * basis.dB[k];
            for (int64_t lane = 0; lane < count; ++lane) t_B[(e + lane) * N_RADIAL + k] = change[lane];
        }
    }
}
