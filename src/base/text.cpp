// Durations, times, digests and JSON text.

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
// The plain functions: the interface above them loads a provider, three megabytes of a process that wants one digest.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "promwarden/base.hpp"

namespace promwarden {

namespace {

struct Unit {
    char letter;
    std::int64_t seconds;
};
constexpr std::array<Unit, 5> units{{{'w', 604800}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}};

/// Builds the value while counting depth and watching for keys that come twice; stops at the first trouble.
class StrictJson final : public nlohmann::json_sax<Json> {
public:
    StrictJson(Json& root, int depth, std::size_t members) : builder_(root, false), depth_(depth), members_(members) {}

    bool null() override { return builder_.null(); }
    bool boolean(bool value) override { return builder_.boolean(value); }
    bool number_integer(number_integer_t value) override { return builder_.number_integer(value); }
    bool number_unsigned(number_unsigned_t value) override {
        if (value > static_cast<number_unsigned_t>(INT64_MAX)) return refuse("a number is too large");
        return builder_.number_unsigned(value);
    }
    bool number_float(number_float_t value, const string_t& text) override { return builder_.number_float(value, text); }
    bool string(string_t& value) override { return builder_.string(value); }
    bool binary(binary_t& value) override { return builder_.binary(value); }
    bool start_object(std::size_t size) override {
        keys_.emplace_back();
        return enter() && builder_.start_object(size);
    }
    bool key(string_t& value) override {
        if (!keys_.back().insert(value).second) return refuse("a key comes twice");
        if (keys_.back().size() > members_) return refuse(fmt::format("an object has more than {} keys", members_));
        return builder_.key(value);
    }
    bool end_object() override {
        keys_.pop_back();
        --open_;
        return builder_.end_object();
    }
    bool start_array(std::size_t size) override { return enter() && builder_.start_array(size); }
    bool end_array() override {
        --open_;
        return builder_.end_array();
    }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
        return refuse(fmt::format("not JSON at byte {}", position));
    }
    [[nodiscard]] const std::string& reason() const { return reason_; }

private:
    bool enter() { return ++open_ <= depth_ || refuse(fmt::format("nested deeper than {}", depth_)); }
    bool refuse(std::string reason) {
        reason_ = std::move(reason);
        return false;
    }

    nlohmann::detail::json_sax_dom_parser<Json> builder_;
    std::vector<std::set<std::string>> keys_;
    int depth_;
    std::size_t members_;
    int open_ = 0;
    std::string reason_;
};

}  // namespace

Result<std::chrono::seconds> parse_duration(std::string_view text) {
    const auto wrong = [&] {
        return fail(Code::invalid, "read duration", std::string(text), "write a whole number with a unit: 90s, 5m, 24h, 30d, 2w, 1h30m");
    };
    std::int64_t total = 0;
    std::int64_t above = INT64_MAX;  // units must descend
    std::string_view rest = text;
    if (rest.empty()) return wrong();
    while (!rest.empty()) {
        std::int64_t number = 0;
        const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
        if (error != std::errc{} || number < 0 || end == rest.data() + rest.size()) return wrong();
        const auto unit = std::ranges::find(units, *end, &Unit::letter);
        if (unit == units.end() || unit->seconds >= above || number > 3'650'000 * 86'400LL / unit->seconds) return wrong();
        total += number * unit->seconds;
        above = unit->seconds;
        rest.remove_prefix(static_cast<std::size_t>(end - rest.data()) + 1);
    }
    return std::chrono::seconds(total);
}

std::string format_duration(std::chrono::seconds value) {
    std::string text;
    auto rest = value.count();
    for (const auto& unit : units) {
        if (unit.letter == 'w') continue;  // people say 30d, not 4w2d
        if (const auto whole = rest / unit.seconds; whole > 0) text += fmt::format("{}{}", whole, unit.letter);
        rest %= unit.seconds;
    }
    return text.empty() ? "0s" : text;
}

std::string format_time(std::chrono::system_clock::time_point time, bool microseconds) {
    const auto since = std::chrono::floor<std::chrono::microseconds>(time.time_since_epoch()).count();
    const std::time_t seconds = since / 1'000'000 - (since % 1'000'000 < 0 ? 1 : 0);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    const auto text = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
    return microseconds ? fmt::format("{}.{:06}Z", text, since - seconds * 1'000'000) : text + "Z";
}

Result<std::chrono::system_clock::time_point> parse_time(std::string_view text) {
    std::tm parts{};
    const std::string copy(text);
    const char* end = ::strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
    if (end == nullptr) return fail(Code::invalid, "read time", copy, "write it as 2026-11-22T10:00:00Z");
    std::int64_t micro = 0;
    if (*end == '.') {
        std::int64_t scale = 1'000'000;
        for (++end; *end >= '0' && *end <= '9'; ++end)
            if (scale > 1) micro += (*end - '0') * (scale /= 10);
    }
    if (std::string_view(end) != "Z") return fail(Code::invalid, "read time", copy, "write it as 2026-11-22T10:00:00Z");
    return std::chrono::system_clock::from_time_t(::timegm(&parts)) + std::chrono::microseconds(micro);
}

std::string sha256(std::string_view bytes) {
    std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, bytes.data(), bytes.size());
    SHA256_Final(digest.data(), &context);
    std::string text;
    for (const auto byte : digest) text += fmt::format("{:02x}", byte);
    return text;
}

std::optional<std::string_view> nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
    std::optional<std::string_view> best;
    std::size_t least = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const auto candidate : candidates) {
        std::vector<std::size_t> row(candidate.size() + 1);
        for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
        for (std::size_t i = 1; i <= word.size(); ++i) {
            std::size_t diagonal = std::exchange(row[0], i);
            for (std::size_t j = 1; j < row.size(); ++j) {
                const auto substituted = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
            }
        }
        if (row.back() < least) {
            least = row.back();
            best = candidate;
        }
    }
    return best;
}

Result<Json> parse_json(std::string_view text, int depth, std::size_t members) {
    Json value;
    StrictJson reader(value, depth, members);
    if (!Json::sax_parse(text, &reader)) return fail(Code::invalid, "read JSON", "", reader.reason().empty() ? "malformed" : reader.reason());
    return value;
}

std::string json_text(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace promwarden
