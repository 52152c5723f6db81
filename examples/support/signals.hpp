// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Signals that end a program (POSIX): a program with something to finish or to clean up asks now
// and then whether one came.
#pragma once

#include <signal.h>

#include <array>
#include <csignal>
#include <cstddef>

namespace gqa::examples {

/// Those that come from outside: Ctrl-C and Ctrl-\, a closed terminal or pipe, kill, a time limit.
inline constexpr std::array ending_signals = {SIGALRM, SIGHUP,  SIGINT,  SIGPIPE, SIGQUIT,
                                              SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};

namespace signals {

inline volatile std::sig_atomic_t interruption = 0;  // the last that came since it was caught
inline volatile std::sig_atomic_t held = 0;

using Handler = void (*)(int);
using Actions = std::array<struct sigaction, ending_signals.size()>;

/// Catches those that would end the program now. Who started it may have had it ignore some, as
/// nohup does: those stay ignored. Returns what all of them did before.
inline Actions catch_ending(Handler handler) {
  Actions before{};
  for (std::size_t i = 0; i < ending_signals.size(); ++i) {
    ::sigaction(ending_signals[i], nullptr, &before[i]);
    if (before[i].sa_handler != SIG_DFL) continue;
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    ::sigaction(ending_signals[i], &action, nullptr);
  }
  return before;
}

}  // namespace signals

/// From now on, signals ask the program to end: see is_interrupted().
inline void catch_interruptions() {
  signals::catch_ending([](int number) { signals::interruption = number; });
}
inline bool is_interrupted() { return signals::interruption != 0; }

/// While one is there, a signal that would end the program waits. For one thread at a time.
class HeldSignals {
 public:
  HeldSignals() : before_(signals::catch_ending([](int number) { signals::held = number; })) {}
  ~HeldSignals() {
    for (std::size_t i = 0; i < ending_signals.size(); ++i) {
      ::sigaction(ending_signals[i], &before_[i], nullptr);
    }
    const int number = signals::held;
    signals::held = 0;
    if (number != 0) ::raise(number);
  }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

 private:
  signals::Actions before_;
};

}  // namespace gqa::examples
