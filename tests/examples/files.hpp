// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the tests of file readers share: a folder that goes away, files with given bytes, the words
// that an error must contain, and the folder of reference data.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>

namespace gqa::test {

/// A new folder, removed with everything in it at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::random_device device;
    do {
      path_ = std::filesystem::temp_directory_path() / ("gqa-test-" + std::to_string(device()));
    } while (!std::filesystem::create_directory(path_));
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Writes a file with these bytes and returns its path.
  std::filesystem::path file(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path path = path_ / name;
    std::ofstream out(path, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    EXPECT_TRUE(out) << "cannot write " << path;
    return path;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << "cannot read " << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// The bytes of a number, little-endian.
template <typename T>
std::string bytes_of_number(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// fn must throw an Exception whose message contains each of `parts`.
template <typename Exception, typename Fn>
void expect_error(Fn&& fn, std::initializer_list<std::string_view> parts) {
  try {
    fn();
  } catch (const Exception& error) {
    for (const std::string_view part : parts) {
      EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos)
          << "\"" << part << "\" is missing in the message: " << error.what();
    }
    return;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another type of exception: " << error.what();
    return;
  }
  ADD_FAILURE() << "nothing was thrown";
}

/// Where the reference data is, with `name` behind it.
inline std::filesystem::path shared_data(const std::string& name) {
  return std::filesystem::path(GQA_SHARED_DATA_DIR) / name;
}

/// Whether the reference data `name` can be used. Its absence is a failure where CI=true.
inline bool have_shared_data(const std::string& name) {
  if (std::filesystem::exists(shared_data(name))) return true;
  const char* ci = std::getenv("CI");
  if (ci != nullptr && std::string_view(ci) == "true") {
    ADD_FAILURE() << shared_data(name) << " is missing, and CI=true";
  }
  return false;
}

}  // namespace gqa::test

/// Leaves a test that cannot run without this reference data.
#define GQA_NEEDS_SHARED_DATA(name)                                                  \
  if (!::gqa::test::have_shared_data(name)) {                                        \
    GTEST_SKIP() << ::gqa::test::shared_data(name) << " is missing: get it, or set " \
                 << "GQA_SHARED_DATA_DIR";                                           \
  }                                                                                  \
  static_assert(true, "so that a semicolon may follow")
