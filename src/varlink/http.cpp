#include "promwarden/http.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace promwarden::varlink {

namespace {

std::string_view reason_of(int status) {
    switch (status) {
        case 200:
            return "OK";
        case 400:
            return "Bad Request";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 421:
            return "Misdirected Request";
        case 431:
            return "Request Header Fields Too Large";
        case 503:
            return "Service Unavailable";
        case 505:
            return "HTTP Version Not Supported";
        default:
            return status < 500 ? "Other" : "Internal Server Error";
    }
}

std::string response(const Page& page, bool with_body) {
    auto text = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{}Connection: close\r\n\r\n", page.status,
        reason_of(page.status), page.content_type, page.body.size(), page.status == 405 ? "Allow: GET, HEAD\r\n" : "");
    if (with_body) text += page.body;
    return text;
}

Page plain(int status) { return {status, "text/plain; charset=utf-8", fmt::format("{}\n", reason_of(status))}; }

bool token(std::string_view text) {  // RFC 9110, 5.6.2
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
    });
}

/// The next line without its end; a bare LF ends one, too.
std::string_view take_line(std::string_view& text) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

struct RequestLine {
    std::string_view method, path, version;
};

std::optional<RequestLine> parse_request_line(std::string_view line) {
    const auto first = line.find(' '), last = line.rfind(' ');
    if (first == std::string_view::npos || first == last) return std::nullopt;
    const RequestLine request{line.substr(0, first), line.substr(first + 1, last - first - 1), line.substr(last + 1)};
    const bool printable = std::ranges::all_of(request.path, [](char c) { return c > ' ' && c < '\x7f'; });
    if (!token(request.method) || !request.path.starts_with('/') || !printable || !request.version.starts_with("HTTP/"))
        return std::nullopt;
    return request;
}

/// Whether every header line is one, and HTTP/1.1 has its one Host (RFC 9112, 3.2).
bool headers_sound(std::string_view text, bool host_needed) {
    int hosts = 0;
    for (auto line = take_line(text); !line.empty(); line = take_line(text)) {
        const auto colon = line.find(':');
        if (colon == std::string_view::npos || !token(line.substr(0, colon))) return false;
        if (std::ranges::any_of(line, [](char c) { return (c >= '\0' && c < ' ' && c != '\t') || c == '\x7f'; })) return false;
        hosts += std::ranges::equal(line.substr(0, colon), std::string_view("host"), [](char a, char b) { return (a | 0x20) == b; });
    }
    return hosts == 1 || (hosts == 0 && !host_needed);
}

}  // namespace

std::optional<std::size_t> http_head_end(std::string_view bytes) {
    for (auto at = bytes.find('\n'); at != std::string_view::npos; at = bytes.find('\n', at + 1)) {
        const auto rest = bytes.substr(at + 1);
        if (rest.starts_with('\n')) return at + 2;
        if (rest.starts_with("\r\n")) return at + 3;
    }
    return std::nullopt;
}

std::string http_refusal(int status) { return response(plain(status), true); }

std::string http_response(std::string_view head, std::span<const Resource> resources, std::size_t limit) {
    const auto request = parse_request_line(take_line(head));
    if (!request) return http_refusal(400);
    if (!request->version.starts_with("HTTP/1.") || request->version.size() != 8) return http_refusal(505);
    if (!headers_sound(head, request->version != "HTTP/1.0")) return http_refusal(400);
    const bool with_body = request->method != "HEAD";
    if (request->method != "GET" && request->method != "HEAD") return http_refusal(405);
    const auto path = request->path.substr(0, request->path.find('?'));
    const auto resource = std::ranges::find(resources, path, &Resource::path);
    if (resource == resources.end()) return response(plain(404), with_body);
    const auto page = resource->read();
    return response(page.body.size() > limit ? plain(500) : page, with_body);
}

}  // namespace promwarden::varlink
