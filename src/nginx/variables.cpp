// What variables hold. One that this room does not know has no value: whoever needs it cannot be answered.

#include <algorithm>

#include <fmt/format.h>

#include "visit.hpp"

namespace promwarden::nginx {

namespace {

constexpr int deepest_variable = 20;
constexpr std::size_t longest_value = 64 << 10;

/// "http_x_user" → "x-user".
std::string header_name(std::string_view variable) {
    std::string name(variable);
    std::ranges::replace(name, '_', '-');
    return name;
}

std::string port_of(const Request& request) {
    const auto colon = request.listener.rfind(':');
    return colon == std::string::npos ? "" : request.listener.substr(colon + 1);
}

/// The value of a name in a query or a cookie.
std::string field(std::string_view text, std::string_view name, char separator) {
    while (!text.empty()) {
        while (text.starts_with(' ')) text.remove_prefix(1);
        auto piece = text.substr(0, text.find(separator));
        text.remove_prefix(std::min(piece.size() + 1, text.size()));
        const auto equals = piece.find('=');
        if (equals != std::string_view::npos && same(piece.substr(0, equals), name)) return std::string(piece.substr(equals + 1));
    }
    return {};
}

/// Whether a map key with hostnames stands for this name: "*.example.org", ".example.org", "www.example.*".
bool host_matches(std::string_view key, std::string_view name) {
    if (key.starts_with("*.")) return name.size() > key.size() - 1 && name.ends_with(key.substr(1));
    if (key.starts_with('.')) return name == key.substr(1) || name.ends_with(key);
    if (key.ends_with(".*")) return name.size() > key.size() - 1 && name.starts_with(key.substr(0, key.size() - 1));
    return false;
}

}  // namespace

Text Visit::header(std::string_view name) {
    const auto& request = shared_.request;
    if (same(name, "host")) return request.host;
    std::string value;
    for (const auto& each : request.headers) {
        if (!same(header_name(each.name), header_name(name))) continue;
        if (!value.empty()) value += same(name, "cookie") ? "; " : ", ";
        value += each.value;
    }
    return value;
}

/// $host: of the request line, else the header's without its port, else the server's first name.
std::string Visit::host() const {
    auto name = lower(shared_.target.host.empty() ? shared_.request.host : shared_.target.host);
    const auto colon = name.starts_with('[') ? name.find(':', name.find(']')) : name.find(':');
    name = name.substr(0, colon);
    if (name.ends_with('.')) name.pop_back();
    return name;
}

Text Visit::simple(std::string_view name) {
    const auto& request = shared_.request;
    if (name == "uri" || name == "document_uri") return uri_;
    if (name == "args" || name == "query_string") return args_;
    if (name == "is_args") return std::string(args_.empty() ? "" : "?");
    if (name == "request_uri") return shared_.target.raw;
    if (name == "request_method") return request.method;
    if (name == "scheme") return std::string(request.tls ? "https" : "http");
    if (name == "https") return std::string(request.tls ? "on" : "");
    if (name == "remote_addr") return request.client;
    if (name == "remote_user") return request.user;
    if (name == "server_port") return port_of(request);
    if (name == "ssl_client_verify") return std::string(request.credentials == Request::Credentials::right ? "SUCCESS" : "NONE");
    if (name == "server_protocol") return std::string("HTTP/1.1");
    if (name == "request") return fmt::format("{} {} HTTP/1.1", request.method, request.target);
    if (name == "proxy_add_x_forwarded_for") {
        const auto sent = header("x-forwarded-for");
        return sent->empty() ? request.client : fmt::format("{}, {}", *sent, request.client);
    }
    if (name == "content_length" || name == "content_type") return header(header_name(name));
    if (name == "host") {
        if (const auto named = host(); !named.empty()) return named;
    }
    if (name == "server_name" || name == "host") {
        const auto names = server_.own("server_name");
        return names.empty() ? std::string() : lower(names.front()->word(0));
    }
    if (name.starts_with("http_")) return header(name.substr(5));
    if (name.starts_with("arg_")) return field(args_, name.substr(4), '&');
    if (name.starts_with("cookie_")) return field(*header("cookie"), name.substr(7), ';');
    return std::nullopt;
}

Text Visit::value(std::string_view written) {
    const auto name = lower(written);
    if (name.size() == 1 && name[0] >= '1' && name[0] <= '9') {
        const auto index = static_cast<std::size_t>(name[0] - '0');
        auto group = index < groups_.size() ? groups_[index] : std::string();
        return in_rewrite_args_ && (quoted_ || plus_) ? escape_argument(group) : group;
    }
    const bool changes = name == "uri" || name == "document_uri" || name == "args" || name == "query_string" || name == "is_args";
    if (const auto known = shared_.values.find(name); !changes && known != shared_.values.end()) return known->second;
    if (const auto map = shared_.configuration.maps.find(name); map != shared_.configuration.maps.end()) return mapped(name, *map->second);
    if (auto simple_value = simple(name)) return simple_value;
    unknown(fmt::format("the value of ${} is not known before the request is made", written));
    return std::nullopt;
}

Text Visit::expand(std::string_view text) {
    std::string result;
    if (text.find('$') == std::string_view::npos) return std::string(text);
    for (const auto& part : parts_of(text)) {
        if (!part.variable) {
            result += part.text;
            continue;
        }
        const auto held = value(part.text);
        if (!held) return std::nullopt;
        result += *held;
        if (result.size() > longest_value) {
            unknown("a value grows too long");
            return std::nullopt;
        }
    }
    return result;
}

Text Visit::mapped(std::string_view name, const Directive& map) {
    if (++shared_.depth > deepest_variable) {
        unknown(fmt::format("${} is made of itself", name));
        return std::nullopt;
    }
    const auto source = expand(map.word(0));
    std::optional<std::string_view> result;
    std::string_view fallback;
    bool hostnames = false, missing = false;
    const auto low = source ? lower(*source) : "";
    const Directive* wildcard = nullptr;
    for (const auto& each : map.block) {
        missing = missing || each.missing;
        if (each.words.empty()) hostnames = hostnames || each.name == "hostnames";
        else if (each.name == "default") fallback = each.word(0);
        else if (!each.name.starts_with('~') && !result && lower(each.name.starts_with('\\') ? each.name.substr(1) : each.name) == low) result = each.word(0);
        else if (hostnames && wildcard == nullptr && host_matches(lower(each.name), low)) wildcard = &each;
    }
    if (!result && wildcard != nullptr) result = wildcard->word(0);
    for (const auto& each : map.block) {
        if (result || !each.name.starts_with('~') || each.words.empty()) continue;
        const bool caseless = each.name.starts_with("~*");
        bool matched = false;
        const auto regex = regex_of(shared_.configuration, std::string_view(each.name).substr(caseless ? 2 : 1), caseless);
        if (source && !match(regex.get(), *source, matched)) break;
        if (source && matched) result = each.word(0);
    }
    if (source && !result && missing) unknown(fmt::format("the map of ${} includes a file that is not here", name));
    auto held = source && !stuck() ? expand(result.value_or(fallback)) : std::nullopt;
    --shared_.depth;
    if (held) shared_.values[std::string(name)] = *held;
    return held;
}

}  // namespace promwarden::nginx
