// SPDX-License-Identifier: Apache-2.0
// The judges' own tests, P7 and P11 for outputs and P16: outputs past their bound and names that nobody took
// are refused with their place.
#include <cmath>
#include <limits>

#include "property_tests/unit/contract_expect.h"
#include "reference/contract/weights.h"

namespace eplora::contract {
namespace {

using Matrix = reference::Matrix<double>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(Outputs, P7IsARelativeErrorThatNamesTheWorstElement) {
  Matrix want(2, 2), got(2, 2);
  want << 3, 0, 0, 4;
  got = want;
  expect_accepted(p7_output(got, want, 0));
  got(1, 0) = 4e-6;
  expect_accepted(p7_output(got, want, 1e-6));
  got(0, 1) = 6e-6;
  expect_violation(p7_output(got, want, 1e-6), "P7", 1, "0", "6e-06", "worst at element (row 0, column 1)");
  expect_violation(p7_output(Matrix::Zero(2, 2), want, 0.5), "P7", 3, "4", "0");
  expect_violation(p7_output(want, Matrix::Zero(2, 2), 1e9), "P7", 3, "0",
                   "4");  // any error is infinite against zero
  expect_violation(p7_output(Matrix::Zero(2, 3), want, 1), "P7", -1, "[2, 2]", "[2, 3]");
  expect_accepted(p7_output(Matrix(0, 2), Matrix(0, 2), 0));
  expect_accepted(p7_output(want * 1e200, want * (1e200 * (1 + 1e-9)), 1e-8));
  expect_accepted(p7_output(want * 1e-200, want * (1e-200 * (1 + 1e-9)), 1e-8));
  expect_violation(p7_output(want * 1e-200, want * 1.1e-200, 1e-8), "P7", 3, "", "");
  expect_violation(p7_output(want * 4e307, want * -4e307, 1), "P7", 0, "", "");
}
TEST(Outputs, NanEqualsOnlyNanAndAnInfinityOnlyItself) {
  const Matrix ones = Matrix::Ones(1, 2);
  const NumericBound wide{1e9, 1e9, 1e9, 8, 8};
  const double special[] = {1, kNan, kInf, -kInf};
  for (const double a : special)
    for (const double b : special) {
      Matrix got = ones, want = ones;
      got(0, 1) = a, want(0, 1) = b;
      const bool same = a == b || (std::isnan(a) && std::isnan(b));
      EXPECT_EQ(p7_output(got, want, 1e9).has_value(), !same) << a << " for " << b;
      EXPECT_EQ(p11_delta(got, want, ones, wide).has_value(), !same) << a << " for " << b;
      if (!same) {
        EXPECT_EQ(p11_delta(got, want, ones, wide)->place, 1);
      }
    }
}
TEST(Outputs, P11IsTheBoundOfSection7) {
  // u_out |ref| + 4 (H + r + 8) u_acc S + u_mid S = 0.125*2 + 4*16*2^-12*4 + 0.0625*4 = 0.25 + 0.0625 + 0.25
  const NumericBound bound{0.125, 0x1p-12, 0.0625, 6, 2};
  const Matrix ref = Matrix::Constant(2, 3, -2), S = Matrix::Constant(2, 3, 4);
  Matrix got = ref;
  got(1, 2) = -2 + 0.5625;
  expect_accepted(p11_delta(got, ref, S, bound));
  got(1, 2) = std::nextafter(-2 + 0.5625, 0.0);
  expect_violation(p11_delta(got, ref, S, bound), "P11", 5, "-2", "-1.4374999999999998",
                   "element (row 1, column 2) of the output, allowed error 0.5625 (S=4)");
  got(1, 2) = 0;  // zeros pass no bound of ours
  expect_violation(p11_delta(got, ref, S, bound), "P11", 5, "-2", "0");
  expect_violation(p11_delta(ref, ref, Matrix::Zero(1, 3), bound), "P11", -1, "[2, 3]", "[1, 3]", "S");
  expect_violation(p11_delta(ref, ref * 1.5, Matrix::Constant(2, 3, kNan), bound), "P11", 0, "-3", "-2");
}

TEST(StrictLoad, P16RefusesAnIgnoredTensor) {
  const std::vector<std::string> file{"gate.A", "gate.B", "router.weight"}, two{"gate.A", "gate.B"};
  expect_accepted(p16_strict_load(file, two, std::vector<std::string>{"router.weight"}));
  expect_violation(p16_strict_load(file, two, {}), "P16", 2, "consumed or refused", "silently ignored",
                   "'router.weight'");
  expect_violation(p16_strict_load(file, two, std::vector<std::string>{"router.weight", "gate.B"}), "P16", 1,
                   "consumed or refused", "both", "'gate.B'");
  expect_violation(p16_strict_load(two, file, {}), "P16", 2, "in the file", "not in the file",
                   "'router.weight'");
  expect_accepted(p16_strict_load({}, {}, {}));
}

}  // namespace
}  // namespace eplora::contract
