// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Tables for a terminal, and numbers with units.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace gqa::bench {

/// printf into a string.
template <typename... Numbers>
std::string text(const char* format, Numbers... numbers) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, numbers...);
  return buffer;
}
inline std::string text(const char* plain) { return plain; }

/// Three digits or a little more, and the unit.
inline std::string seconds_text(double seconds) {
  const bool micro = seconds < 1e-3, milli = seconds < 1;
  const double x = seconds * (micro ? 1e6 : milli ? 1e3 : 1);
  return text("%.*f %s", x < 10 ? 2 : x < 100 ? 1 : 0, x, micro ? "us" : milli ? "ms" : "s");
}
inline std::string bytes_text(double bytes) {
  if (bytes < 1024) return text("%.0f B", bytes);
  if (bytes < 1024.0 * 1024) return text("%.0f KiB", bytes / 1024);
  if (bytes < 1024.0 * 1024 * 1024) return text("%.1f MiB", bytes / (1024.0 * 1024));
  return text("%.2f GiB", bytes / (1024.0 * 1024 * 1024));
}

/// Right-aligned columns of ASCII text under a line of group names.
class Table {
 public:
  struct Group {
    std::size_t column;  ///< where its name begins
    std::string name;
  };
  void groups(std::vector<Group> groups) { groups_ = std::move(groups); }
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void rule() { rows_.emplace_back(); }

  std::string str() const {
    std::vector<std::size_t> widths;
    for (const auto& row : rows_) {
      widths.resize(std::max(widths.size(), row.size()));
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    const auto begin_of = [&](std::size_t column) {
      std::size_t x = 0;
      for (std::size_t i = 0; i < std::min(column, widths.size()); ++i) x += widths[i] + 2;
      return x;
    };
    std::string result;
    for (const Group& group : groups_) {
      if (!group.name.empty()) result.resize(begin_of(group.column), ' ');
      result += group.name;
    }
    result += "\n";
    for (const auto& row : rows_) {
      if (row.empty()) result += std::string(begin_of(widths.size()) - 2, '-');
      for (std::size_t i = 0; i < row.size(); ++i) {
        result += std::string((i > 0 ? 2 : 0) + widths[i] - row[i].size(), ' ') + row[i];
      }
      result += "\n";
    }
    return result;
  }

 private:
  std::vector<Group> groups_;
  std::vector<std::vector<std::string>> rows_;  // an empty one is a rule
};

/// What is going on, on stderr: one line that is rewritten in a terminal, a line per change of
/// subject elsewhere.
class Progress {
 public:
  ~Progress() { clear(); }

  void operator()(const std::string& subject, const std::string& detail) {
    if (terminal_) {
      std::fprintf(stderr, "\r\033[K%s: %s", subject.c_str(), detail.c_str());
    } else if (subject != subject_) {
      std::fprintf(stderr, "%s\n", subject.c_str());
    }
    std::fflush(stderr);
    subject_ = subject;
  }
  /// Makes room for a table.
  void clear() {
    if (terminal_ && !subject_.empty()) std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
    subject_.clear();
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::string subject_;
};

}  // namespace gqa::bench
