/* Products by few rows, for MLX's CPU backend on Linux.

   A live frame multiplies few rows by every weight: it takes as long as reading the
   weights from memory. OpenBLAS copies a weight before it multiplies by it, which reads
   it once more and writes it too. Here it is read once, as streams side by side that
   the processor's prefetcher follows, and each number serves all rows.

   `few_rows_sgemm` stands in for `cblas_sgemm` and gives it what is not of that kind.
   Vectors are GCC's and Clang's own, for whatever the processor has. */

#include <stddef.h>

#ifdef __AVX512F__
#define WIDTH 16
#else
#define WIDTH 8
#endif
#define MOST_ROWS 12 /* with more of them the copy pays */

enum { ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112 };

typedef float vector __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef void sgemm(int order, int trans_a, int trans_b, int m, int n, int k,
                   float alpha, const float *a, int lda, const float *b, int ldb,
                   float beta, float *c, int ldc);

sgemm *other_sgemm; /* set by who loads this */

static inline float sum(vector v) {
  float s = 0;
  for (int i = 0; i < WIDTH; i++) s += v[i];
  return s;
}

/* The first n numbers of a vector, then zeros. */
static inline vector part(const float *numbers, int n) {
  vector v = {0};
  for (int i = 0; i < n; i++) v[i] = numbers[i];
  return v;
}

/* ROWS rows of a, `lda` apart, by STREAMS rows of b, `ldb` apart: ROWS x STREAMS
   numbers of c, `ldc` and `step` apart. All of these functions sum alike: a row of a
   batch gives what it gives alone. */
#define BLOCK(ROWS, STREAMS)                                                        \
  static void block_##ROWS##_##STREAMS(int k, const float *a, size_t lda,           \
                                       const float *b, size_t ldb, float beta,      \
                                       float *c, size_t ldc, size_t step) {         \
    vector sums[ROWS][STREAMS] = {0}, w[STREAMS], x;                                \
    int p = 0;                                                                      \
    for (; p + WIDTH <= k; p += WIDTH) {                                            \
      for (int j = 0; j < STREAMS; j++) w[j] = *(const vector *)(b + j * ldb + p);  \
      for (int i = 0; i < ROWS; i++) {                                              \
        x = *(const vector *)(a + i * lda + p);                                     \
        for (int j = 0; j < STREAMS; j++) sums[i][j] += x * w[j];                   \
      }                                                                             \
    }                                                                               \
    if (p < k) {                                                                    \
      for (int j = 0; j < STREAMS; j++) w[j] = part(b + j * ldb + p, k - p);        \
      for (int i = 0; i < ROWS; i++) {                                              \
        x = part(a + i * lda + p, k - p);                                           \
        for (int j = 0; j < STREAMS; j++) sums[i][j] += x * w[j];                   \
      }                                                                             \
    }                                                                               \
    for (int i = 0; i < ROWS; i++)                                                  \
      for (int j = 0; j < STREAMS; j++) {                                           \
        float y = sum(sums[i][j]), *out = c + i * ldc + j * step;                   \
        *out = beta == 0 ? y : y + beta * *out;                                     \
      }                                                                             \
  }

BLOCK(1, 1) BLOCK(2, 1) BLOCK(3, 1) BLOCK(4, 1)
BLOCK(1, 2) BLOCK(2, 2) BLOCK(3, 2) BLOCK(4, 2)
BLOCK(1, 4) BLOCK(2, 4)

typedef void block(int, const float *, size_t, const float *, size_t, float, float *,
                   size_t, size_t);
/* by rows and by the streams that sums leave registers for */
static block *const single[] = {0, block_1_1, block_2_1, block_3_1, block_4_1};
static block *const twofold[] = {0, block_1_2, block_2_2, block_3_2, block_4_2};
static block *const fourfold[] = {0, block_1_4, block_2_4};

/* c = a b^T + beta c, a [m, k], b [n, k], c [m, n] */
static void few_rows(int m, int n, int k, const float *a, size_t lda, const float *b,
                     size_t ldb, float beta, float *c, size_t ldc) {
  int streams = m <= 2 ? 4 : 2, each = n / streams;
  block *const *blocks = m <= 2 ? fourfold : twofold;
  for (int j = 0; j < each; j++)
    for (int i = 0; i < m; i += 4)
      blocks[m - i < 4 ? m - i : 4](k, a + i * lda, lda, b + j * ldb, each * ldb, beta,
                                    c + i * ldc + j, ldc, each);
  for (int j = each * streams; j < n; j++)
    for (int i = 0; i < m; i += 4)
      single[m - i < 4 ? m - i : 4](k, a + i * lda, lda, b + j * ldb, 0, beta,
                                    c + i * ldc + j, ldc, 0);
}

void few_rows_sgemm(int order, int trans_a, int trans_b, int m, int n, int k,
                    float alpha, const float *a, int lda, const float *b, int ldb,
                    float beta, float *c, int ldc) {
  if (order == ROW_MAJOR && trans_a == AS_IT_IS && trans_b == TRANSPOSED &&
      m <= MOST_ROWS && alpha == 1)
    few_rows(m, n, k, a, lda, b, ldb, beta, c, ldc);
  else
    other_sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
