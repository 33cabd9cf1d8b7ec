// Messages between client and worker: one JSON object each, every key known, every value in its range. Either side takes the other for hostile.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

namespace {

constexpr int depth = 4;
constexpr std::size_t longest_word = 512;
constexpr std::size_t longest_chain_bytes = 32 << 10;
constexpr std::size_t longest_authorities = 48 << 10;

std::string base64(std::string_view bytes) {
    std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const auto length = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(length));
    return text;
}

std::unexpected<Error> malformed(std::string detail) { return fail(Code::invalid, "read", "a probe message", std::move(detail)); }

Result<std::string> from_base64(std::string_view text) {
    if (text.size() % 4 != 0) return malformed("not base64");
    std::string bytes(text.size() / 4 * 3 + 1, '\0');
    const auto length = ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()), reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (length < 0) return malformed("not base64");
    const auto padding = text.size() - std::min(text.size(), text.find_last_not_of('=') + 1);
    if (padding > 2) return malformed("not base64");
    bytes.resize(static_cast<std::size_t>(length) - padding);
    return bytes;
}

/// Reads the members of one object; whatever is not asked for is one too many.
class Members {
public:
    explicit Members(const Json& json) : json_(json) {}

    Result<std::string> text(const char* key, std::size_t limit = longest_word) {
        const auto* value = find(key);
        if (value == nullptr || !value->is_string()) return malformed(fmt::format("\"{}\" is missing or no text", key));
        auto text = value->get<std::string>();
        if (text.size() > limit) return malformed(fmt::format("\"{}\" is too long", key));
        return text;
    }
    Result<bool> flag(const char* key) {
        const auto* value = find(key);
        if (value == nullptr || !value->is_boolean()) return malformed(fmt::format("\"{}\" is missing or neither true nor false", key));
        return value->get<bool>();
    }
    Result<int> number(const char* key, int low, int high) {
        const auto* value = find(key);
        if (value == nullptr || !value->is_number_integer()) return malformed(fmt::format("\"{}\" is missing or no number", key));
        const auto number = value->get<std::int64_t>();
        if (number < low || number > high || (value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(high))) return malformed(fmt::format("\"{}\" is out of range", key));
        return static_cast<int>(number);
    }
    template <class Enumeration>
    Result<Enumeration> choice(const char* key, Enumeration last) {
        return static_cast<Enumeration>(TRY(number(key, 0, static_cast<int>(last))));
    }
    [[nodiscard]] bool has(const char* key) const { return json_.contains(key); }
    const Json* find(const char* key) {
        const auto found = json_.find(key);
        if (found == json_.end()) return nullptr;
        ++used_;
        return &*found;
    }
    Result<> end() const { return used_ == json_.size() ? Result<>{} : malformed("it has keys that nobody knows"); }

private:
    const Json& json_;
    std::size_t used_ = 0;
};

Result<Json> object(std::string_view message, std::size_t limit) {
    if (message.size() > limit) return fail(Code::limit, "read", "a probe message", "too long");
    auto json = TRY(parse_json(message, depth, 32));
    if (!json.is_object()) return malformed("no object");
    return json;
}

bool only(std::string_view text, std::string_view others) {
    return std::ranges::all_of(text, [&](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || others.contains(c); });
}

/// A prefix as --web.route-prefix has it: "", or "/" and plain segments.
bool fits_prefix(std::string_view prefix) {
    if (prefix.empty()) return true;
    return prefix.size() <= 128 && prefix.starts_with('/') && !prefix.ends_with('/') && !prefix.contains("//") && !prefix.contains("/.") && only(prefix, "/-_.");
}

Result<> check(const Request& request) {
    if (request.kind == Request::Kind::http && find_question(request.method, request.path) == nullptr)
        return fail(Code::denied, "ask", fmt::format("{} {}", request.method, request.path), "this is not on the list of what may be asked");
    if (request.to.port == 0) return malformed("port 0");
    if (!fits_prefix(request.prefix)) return malformed("\"prefix\" is not a path");
    if (request.server_name.size() > 253 || !only(request.server_name, ".-")) return malformed("\"server_name\" is not a name");
    if (request.lowest > request.highest) return malformed("\"lowest\" is above \"highest\"");
    return {};
}

Json json_of(const Answer& answer) {
    Json json{{"end", static_cast<int>(answer.end)}, {"detail", answer.detail}, {"status", answer.status}, {"headers", Json::object()}, {"body", base64(answer.body)},
              {"truncated", answer.truncated}, {"sha256", answer.sha256}, {"cipher", answer.cipher}, {"alert", answer.alert}, {"chain", Json::array()}, {"verified", answer.verified}};
    for (const auto& [name, value] : answer.headers) json["headers"][name] = value;
    if (answer.version) json["version"] = static_cast<int>(*answer.version);
    if (answer.resumed) json["resumed"] = *answer.resumed;
    std::size_t bytes = 0;
    for (const auto& certificate : answer.chain) {
        if (bytes += certificate.size(); bytes > longest_chain_bytes || json["chain"].size() == longest_chain) break;
        json["chain"].push_back(base64(certificate));
    }
    return json;
}

Result<Answer> answer_of(Members members) {
    Answer answer;
    answer.end = TRY(members.choice("end", live::End::failed));
    answer.detail = TRY(members.text("detail"));
    answer.status = TRY(members.number("status", 0, 999));
    const auto* headers = members.find("headers");
    if (headers == nullptr || !headers->is_object()) return malformed("\"headers\" is missing");
    for (const auto& [name, value] : headers->items()) {
        if (!value.is_string() || name.size() > longest_word || value.get_ref<const std::string&>().size() > 4 * longest_word) return malformed("a header is too long");
        answer.headers[name] = value.get<std::string>();
    }
    answer.body = TRY(from_base64(TRY(members.text("body", longest_answer))));
    answer.truncated = TRY(members.flag("truncated"));
    answer.sha256 = TRY(members.text("sha256"));
    answer.cipher = TRY(members.text("cipher"));
    answer.alert = TRY(members.number("alert", 0, 255));
    const auto* chain = members.find("chain");
    if (chain == nullptr || !chain->is_array() || chain->size() > longest_chain) return malformed("\"chain\" is missing or too long");
    for (const auto& certificate : *chain) {
        if (!certificate.is_string()) return malformed("\"chain\" is no list of certificates");
        answer.chain.push_back(TRY(from_base64(certificate.get_ref<const std::string&>())));
    }
    answer.verified = TRY(members.text("verified"));
    if (members.has("version")) answer.version = TRY(members.choice("version", live::TlsVersion::tls_1_3));
    if (members.has("resumed")) answer.resumed = TRY(members.flag("resumed"));
    TRY(members.end());
    return answer;
}

}  // namespace

std::string encode(const Request& request) {
    return json_text({{"kind", static_cast<int>(request.kind)},
                      {"address", to_text(request.to.address)},
                      {"port", request.to.port},
                      {"tls", request.tls},
                      {"server_name", request.server_name},
                      {"method", request.method},
                      {"path", request.path},
                      {"prefix", request.prefix},
                      {"foreign_origin", request.foreign_origin},
                      {"http2", request.http2},
                      {"credential", static_cast<int>(request.credential)},
                      {"identity", static_cast<int>(request.identity)},
                      {"lowest", static_cast<int>(request.lowest)},
                      {"highest", static_cast<int>(request.highest)},
                      {"authorities", request.authorities},
                      {"resume", request.resume},
                      {"timeout", request.timeout.count()}});
}

Result<Request> decode_request(std::string_view message) {
    const auto json = TRY(object(message, longest_request));
    Members members(json);
    Request request;
    request.kind = TRY(members.choice("kind", Request::Kind::handshake));
    request.to.address = TRY(parse_address(TRY(members.text("address"))));
    request.to.port = static_cast<std::uint16_t>(TRY(members.number("port", 1, 65535)));
    request.tls = TRY(members.flag("tls"));
    request.server_name = TRY(members.text("server_name"));
    request.method = TRY(members.text("method"));
    request.path = TRY(members.text("path"));
    request.prefix = TRY(members.text("prefix"));
    request.foreign_origin = TRY(members.flag("foreign_origin"));
    request.http2 = TRY(members.flag("http2"));
    request.credential = TRY(members.choice("credential", Credential::own));
    request.identity = TRY(members.choice("identity", Identity::own));
    request.lowest = TRY(members.choice("lowest", live::TlsVersion::tls_1_3));
    request.highest = TRY(members.choice("highest", live::TlsVersion::tls_1_3));
    request.authorities = TRY(members.text("authorities", longest_authorities));
    request.resume = TRY(members.flag("resume"));
    request.timeout = std::chrono::milliseconds(TRY(members.number("timeout", 1, static_cast<int>(longest_timeout.count()))));
    TRY(members.end());
    TRY(check(request));
    return request;
}

std::string encode(const Result<Answer>& answer) {
    if (answer) return json_text({{"answer", json_of(*answer)}});
    const auto& error = answer.error();
    return json_text({{"error",
                       {{"code", static_cast<int>(error.code)}, {"number", error.number}, {"action", error.action}, {"subject", error.subject}, {"detail", error.detail}}}});
}

Result<Result<Answer>> decode_answer(std::string_view message) {
    const auto json = TRY(object(message, longest_answer));
    if (json.size() != 1) return malformed("not one answer");
    if (const auto answer = json.find("answer"); answer != json.end() && answer->is_object()) return Result<Answer>(TRY(answer_of(Members(*answer))));
    const auto error = json.find("error");
    if (error == json.end() || !error->is_object()) return malformed("neither an answer nor an error");
    Members members(*error);
    const auto code = TRY(members.choice("code", Code::failed));
    const auto number = TRY(members.number("number", 0, 4095));
    auto action = TRY(members.text("action")), subject = TRY(members.text("subject")), detail = TRY(members.text("detail"));
    TRY(members.end());
    return Result<Answer>(std::unexpected(Error{code, number, std::move(action), std::move(subject), std::move(detail)}));
}

}  // namespace promwarden::probe
