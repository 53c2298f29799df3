// SPDX-License-Identifier: Apache-2.0
// What the program's exit status means. A status is never a count.
#pragma once

namespace eplora {

enum ExitCode : int {
  kAgreement = 0,       ///< everything asked for ran and agrees
  kDifference = 1,      ///< a difference, a violation, a bound broken, a mutant that survived
  kBadInput = 2,        ///< usage, or an argument or file that cannot be used
  kNothingRan = 3,      ///< what was asked for selects nothing, or everything was skipped
  kBackendMissing = 4,  ///< the backend or its device is not here
  kInternal = 5,        ///< a fault of this program
  kInterrupted = 130,   ///< Ctrl-C
};

}  // namespace eplora
