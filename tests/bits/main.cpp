// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Are results the same bits as before? Runs every case and compares a digest of its results with
// that in a file. A change that is meant to change bits writes the file anew, and shows thereby
// which cases it changes:
//
//   bits_x86-64-v3 digests.txt            compares; 1 if anything differs, 77 without the level
//   bits_x86-64-v3 digests.txt --write    replaces the level's column
//
// Compilers contract a * b + c to one rounding where they see fit, so the digests are of one
// compiler, which the file names. Two versions of the library can be compared with any compiler and
// level: compile this folder, which needs nothing but headers, against the one and the other.
//
//   flags=(-std=c++20 -O3 -march=native -DGQA_BITS_LEVEL='"native"' -DGQA_BITS_ANY_COMPILER)
//   bits() { g++ "${flags[@]}" -I $1/include -isystem /usr/include/eigen3 tests/bits/*.cpp -o $2; }
//   bits ../old old_bits && bits . new_bits
//   ./old_bits native.txt --write && ./new_bits native.txt
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "report.hpp"

namespace gqa::bits {
namespace {

std::map<std::string, std::string> results;
bool ambiguous = false;

/// The digests of all levels, as digests.txt has them.
struct Table {
  std::string compiler;
  std::vector<std::string> levels;
  std::map<std::string, std::vector<std::string>> rows;  // by case, a digest per level

  std::size_t column(const std::string& name) const {
    return static_cast<std::size_t>(std::find(levels.begin(), levels.end(), name) - levels.begin());
  }
};

/// And what else decides about bits.
std::string this_compiler() {
#if defined(GQA_BITS_ANY_COMPILER)
  return "any";
#elif defined(__clang__)
  return "clang++ " + std::to_string(__clang_major__);
#else
  std::string name = "g++ " + std::to_string(__GNUC__);
#if defined(__GLIBC__)  // whose sines and logarithms are some of the rules' and of RoPE's
  name += ", glibc " + std::to_string(__GLIBC__) + "." + std::to_string(__GLIBC_MINOR__);
#endif
  return name;
#endif
}

const char compiler_line[] = "# compiler: ";

Table read(const char* path) {
  Table table;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(compiler_line)) table.compiler = line.substr(sizeof compiler_line - 1);
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name, word;
    words >> name;
    std::vector<std::string> digests;
    while (words >> word) digests.push_back(word);
    if (name == "case") {
      table.levels = digests;
    } else {
      digests.resize(table.levels.size(), "-");
      table.rows[name] = digests;
    }
  }
  return table;
}

bool write(const char* path, const Table& table) {
  std::ofstream out(path);
  out << "# Digests of results, a row per case, a column per instruction set. See main.cpp.\n"
      << compiler_line << table.compiler << "\n";
  const auto line = [&](const std::string& name, const std::vector<std::string>& words) {
    out << name;
    for (const std::string& word : words) out << ' ' << word;
    out << '\n';
  };
  line("case", table.levels);
  for (const auto& [name, digests] : table.rows) line(name, digests);
  out.flush();
  return out.good();
}

int write_column(const char* path) {
  Table table = read(path);
  table.compiler = this_compiler();
  if (table.column(level) == table.levels.size()) table.levels.push_back(level);
  for (const auto& [name, digest] : results) table.rows[name];
  for (auto& [name, digests] : table.rows) {
    digests.resize(table.levels.size(), "-");
    const auto found = results.find(name);
    digests[table.column(level)] = found == results.end() ? "-" : found->second;
  }
  std::erase_if(table.rows, [](const auto& row) {
    return std::ranges::all_of(row.second, [](const std::string& word) { return word == "-"; });
  });
  if (!write(path, table)) {
    std::printf("%s can't be written\n", path);
    return 1;
  }
  std::printf("%zu digests of %s written\n", results.size(), level);
  return 0;
}

int compare(const char* path) {
  const Table table = read(path);
  const std::size_t column = table.column(level);
  if (column == table.levels.size()) {
    std::printf("%s has no column %s\n", path, level);
    return 1;
  }
  if (table.compiler != this_compiler()) {
    std::printf("Skipped: the digests are those of %s, this is %s\n", table.compiler.c_str(),
                this_compiler().c_str());
    return 77;
  }
  std::size_t different = 0, missing = 0, added = 0;
  for (const auto& [name, digests] : table.rows) {
    if (digests[column] == "-") continue;
    const auto found = results.find(name);
    if (found == results.end()) {
      ++missing;
      std::printf("MISSING    %s\n", name.c_str());
    } else if (found->second != digests[column]) {
      ++different;
      std::printf("DIFFERENT  %s\n", name.c_str());
    }
  }
  for (const auto& [name, digest] : results) {
    const auto row = table.rows.find(name);
    if (row != table.rows.end() && row->second[column] != "-") continue;
    ++added;
    std::printf("NEW        %s\n", name.c_str());
  }
  std::printf("%s: of %zu cases, %zu differ, %zu are missing and %zu new\n", level, results.size(),
              different, missing, added);
  return different + missing + added == 0 && !ambiguous ? 0 : 1;
}

}  // namespace

void report(const std::string& name, std::uint64_t digest) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(digest));
  if (!results.emplace(name, digits).second) {
    ambiguous = true;
    std::printf("TWICE      %s\n", name.c_str());
  }
}

}  // namespace gqa::bits

int main(int argc, char** argv) {
  using namespace gqa::bits;
  const bool writes = argc == 3 && std::strcmp(argv[2], "--write") == 0;
  if (argc != 2 && !writes) {
    std::printf("usage: %s digests.txt [--write]\n", argv[0]);
    return 2;
  }
  if (!processor_has_level()) {
    std::printf("Skipped: this processor lacks instructions that the digests of %s are of\n",
                level);
    return 77;
  }
  try {
    for (const auto cases :
         {&attend_over_float_caches, &attend_over_narrow_caches, &attend_over_other_sources,
          &attend_with_own_parts, &gradients, &layers}) {
      if (cases) cases();
    }
  } catch (const std::exception& error) {
    std::printf("a case threw: %s\n", error.what());
    return 1;
  }
  return writes ? write_column(argv[1]) : compare(argv[1]);
}
