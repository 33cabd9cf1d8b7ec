#include "question.hpp"

#include <algorithm>
#include <charconv>

namespace promwarden::cli {

namespace {

constexpr std::string_view action = "read";

std::unexpected<Error> refused(std::string_view text, std::string reason) { return fail(Code::invalid, std::string(action), "'" + std::string(text) + "'", std::move(reason)); }

Result<std::uint16_t> parse_port(std::string_view digits, std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (digits.empty() || error != std::errc() || end != digits.data() + digits.size() || port == 0) return refused(text, "the port is not a number from 1 to 65535");
    return port;
}

Address unmapped(const Address& address) {
    constexpr std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (address.family != Family::ip6 || !std::equal(mapped.begin(), mapped.end(), address.bytes.begin())) return address;
    Address result{Family::ip4, {}};
    std::copy_n(address.bytes.begin() + 12, 4, result.bytes.begin());
    return result;
}

}  // namespace

Result<Question> parse_question(std::string_view text) {
    auto host = text;
    std::optional<std::string_view> digits;
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        if (end == std::string_view::npos) return refused(text, "']' is missing");
        host = text.substr(1, end - 1);
        const auto rest = text.substr(end + 1);
        if (!rest.empty() && rest.front() != ':') return refused(text, "after ']' comes ':' and a port");
        if (!rest.empty()) digits = rest.substr(1);
        if (!host.contains(':')) return refused(text, "brackets are for IPv6 addresses");
    } else if (std::ranges::count(text, ':') == 1) {
        host = text.substr(0, text.find(':'));
        digits = text.substr(text.find(':') + 1);
    }
    const auto address = parse_address(host);
    if (!address) return refused(text, "not ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT");
    Question question{unmapped(*address), {}};
    if (digits) question.port = TRY(parse_port(*digits, text));
    return question;
}

}  // namespace promwarden::cli
