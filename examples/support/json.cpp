// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/json.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "support/binary_file.hpp"

namespace gqa::examples {
namespace {

class JsonReader {
 public:
  JsonReader(std::string_view text, const std::string& file, std::uint64_t first_byte,
             const JsonRules& rules)
      : text_(text), file_(file), first_byte_(first_byte), rules_(rules) {}

  OrderedJson read() {
    OrderedJson result = value(0);
    if (at_ < text_.size()) malformed(at_, "something follows its value");
    return result;
  }

 private:
  /// One value and the white space around it, within `depth` others.
  OrderedJson value(int depth) {
    skip_space();
    if (at_ == text_.size()) malformed(at_, "it ends where a value should be");
    const char c = text_[at_];
    if ((c == '{' || c == '[') && depth == rules_.max_depth) {
      fail_at(file_, first_byte_ + at_,
              std::string(rules_.what) + "'s JSON is nested too deeply: more than " +
                  std::to_string(rules_.max_depth) + " levels");
    }
    OrderedJson result = c == '{'   ? object(depth)
                         : c == '[' ? array(depth)
                         : c == '"' ? string()
                                    : number_or_word();
    skip_space();
    return result;
  }

  OrderedJson object(int depth) {
    OrderedJson result = OrderedJson::object();
    auto& entries = result.get_ref<OrderedJson::object_t&>();
    std::map<std::string, std::size_t> places;  // a search in `entries` would be linear
    ++at_;
    skip_space();
    if (take('}')) return result;
    do {
      skip_space();
      const std::size_t begin = at_;
      if (at_ == text_.size() || text_[at_] != '"') malformed(at_, "a name should be here");
      std::string name = string().get<std::string>();
      skip_space();
      if (!take(':')) malformed(at_, "a ':' should be here");
      const auto [found, is_new] = places.emplace(name, entries.size());
      if (!is_new && rules_.unique_names) {
        fail_at(file_, first_byte_ + begin, "the name \"" + name + "\" appears twice");
      }
      OrderedJson entry = value(depth + 1);
      if (is_new) {
        entries.emplace_back(std::move(name), std::move(entry));
      } else {
        entries.begin()[static_cast<std::ptrdiff_t>(found->second)].second = std::move(entry);
      }
    } while (take(','));
    if (!take('}')) malformed(at_, "a ',' or '}' should be here");
    return result;
  }

  OrderedJson array(int depth) {
    OrderedJson result = OrderedJson::array();
    ++at_;
    skip_space();
    if (take(']')) return result;
    do {
      result.push_back(value(depth + 1));
    } while (take(','));
    if (!take(']')) malformed(at_, "a ',' or ']' should be here");
    return result;
  }

  OrderedJson string() {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) malformed(text_.size(), "it ends inside of a string");
    return scalar(end + 1);
  }

  OrderedJson number_or_word() {
    const auto part_of_word = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '+' || c == '-' || c == '.';
    };
    std::size_t end = at_;
    while (end < text_.size() && part_of_word(text_[end])) ++end;
    if (end == at_) malformed(at_, "a value should be here");
    if (rules_.pythons_numbers) {
      constexpr double infinity = std::numeric_limits<double>::infinity();
      for (const auto& [word, number] : {std::pair{"Infinity", infinity},
                                         {"-Infinity", -infinity},
                                         {"NaN", std::numeric_limits<double>::quiet_NaN()}}) {
        if (text_.substr(at_, end - at_) != word) continue;
        at_ = end;
        return number;
      }
    }
    return scalar(end);
  }

  /// The library's value of the text up to `end`.
  OrderedJson scalar(std::size_t end) {
    const std::string_view token = text_.substr(at_, end - at_);
    try {
      OrderedJson result = OrderedJson::parse(token.begin(), token.end());
      at_ = end;
      return result;
    } catch (const OrderedJson::parse_error& error) {  // its byte counts from 1
      malformed(at_ + (error.byte > 0 ? error.byte - 1 : 0),
                token[0] == '"' ? "no string has such a character, or such an escape"
                                : "\"" + std::string(token.substr(0, 40)) +
                                      "\" is neither a number nor null, true or false");
    } catch (const OrderedJson::out_of_range&) {
      malformed(at_, "the number " + std::string(token.substr(0, 40)) + " is out of range");
    }
  }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }
  bool take(char c) {
    const bool found = at_ < text_.size() && text_[at_] == c;
    if (found) ++at_;
    return found;
  }
  [[noreturn]] void malformed(std::size_t at, const std::string& why) const {
    fail_at(file_, first_byte_ + at, std::string(rules_.what) + " isn't valid JSON: " + why);
  }

  std::string_view text_;
  const std::string& file_;
  std::uint64_t first_byte_;
  const JsonRules& rules_;
  std::size_t at_ = 0;
};

void append_text(const OrderedJson& value, std::size_t indent, std::string& text) {
  const auto new_line = [&](std::size_t spaces) { text += '\n' + std::string(spaces, ' '); };
  if (value.is_structured() && !value.empty()) {
    text += value.is_object() ? '{' : '[';
    bool first = true;
    for (const auto& [name, entry] : value.items()) {
      if (!std::exchange(first, false)) text += ',';
      new_line(indent + 2);
      if (value.is_object()) text += OrderedJson(name).dump() + ": ";
      append_text(entry, indent + 2, text);
    }
    new_line(indent);
    text += value.is_object() ? '}' : ']';
  } else if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    text += std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  } else {
    text += value.dump();
  }
}

}  // namespace

OrderedJson parse_json(std::string_view text, const std::string& file, std::uint64_t first_byte,
                       const JsonRules& rules) {
  if (text.size() > rules.max_bytes) {
    fail_at(file, first_byte,
            std::string(rules.what) + " has " + std::to_string(text.size()) +
                " bytes of JSON, above the limit of " + std::to_string(rules.max_bytes));
  }
  return JsonReader(text, file, first_byte, rules).read();
}

OrderedJson read_json(const std::filesystem::path& path, const JsonRules& rules) {
  const std::string name = path.string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw std::runtime_error(name + ": cannot open the file for reading");
  }
  BinaryFile file(path);
  // Before it is read: no file may make us allocate more.
  const std::uint64_t bytes = std::min(file.size(), rules.max_bytes + 1);
  std::string text(static_cast<std::size_t>(bytes), '\0');
  file.read(0, reinterpret_cast<std::byte*>(text.data()), bytes);
  OrderedJson json = parse_json(text, name, 1, rules);
  if (!json.is_object()) throw std::runtime_error(name + ": isn't a JSON object");
  return json;
}

std::string json_text(const OrderedJson& value) {
  std::string text;
  append_text(value, 0, text);
  return text;
}

}  // namespace gqa::examples
