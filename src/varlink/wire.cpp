#include "wire.hpp"

namespace promwarden::varlink {

namespace {

constexpr int reply_depth = 32;  // a client trusts its server further than the server its clients

std::unexpected<Error> malformed(std::string detail) { return fail(Code::invalid, "read message", "", std::move(detail)); }

/// An optional member of a message that has to be of one kind; null is absent.
Result<> object_field(const Json& value, Json& into) {
    if (value.is_null()) return {};
    if (!value.is_object()) return malformed("parameters must be an object");
    into = value;
    return {};
}

Result<> flag(const Json& value, bool& into) {
    if (value.is_null()) return {};
    if (!value.is_boolean()) return malformed("a flag must be true or false");
    into = value.get<bool>();
    return {};
}

Result<> text_field(const Json& value, std::string& into) {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) return malformed("a name must be a string");
    into = value.get<std::string>();
    return {};
}

std::string object_text(const Json& parameters) { return parameters.is_object() ? json_text(parameters) : "{}"; }

}  // namespace

std::optional<std::string_view> Inbox::message() {
    const auto end = bytes_.find('\0', std::max(scanned_, taken_));
    scanned_ = end == std::string::npos ? bytes_.size() : end;
    if (end == std::string::npos) return std::nullopt;
    return std::string_view(bytes_).substr(taken_, end - taken_);
}

void Inbox::take(std::string_view message) {
    taken_ += message.size() + 1;
    if (taken_ >= bytes_.size()) return clear();
    if (taken_ < bytes_.size() / 2) return;  // moving what is left costs no more than reading it did
    bytes_.erase(0, taken_);
    bytes_.shrink_to_fit();
    taken_ = scanned_ = 0;
}

void Inbox::clear() {
    std::string().swap(bytes_);
    taken_ = scanned_ = 0;
}

Result<Request> parse_request(std::string_view text, int depth, std::size_t members) {
    const Json message = TRY(parse_json(text, depth, members));
    if (!message.is_object()) return malformed("not an object");
    Request request;
    for (const auto& [key, value] : message.items()) {
        if (key == "method")
            TRY(text_field(value, request.method));
        else if (key == "parameters")
            TRY(object_field(value, request.parameters));
        else if (key == "more")
            TRY(flag(value, request.more));
        else if (key == "oneway")
            TRY(flag(value, request.oneway));
        else if (key == "upgrade")
            TRY(flag(value, request.upgrade));
        else
            return malformed("unknown field");
    }
    if (request.method.empty()) return malformed("no method");
    if (int{request.more} + int{request.oneway} + int{request.upgrade} > 1) return malformed("flags exclude each other");
    return request;
}

std::string request_text(std::string_view method, const Json& parameters, bool more) {
    auto text =
        R"({"method":)" + json_text(Json(method)) + R"(,"parameters":)" + object_text(parameters) + (more ? R"(,"more":true})" : "}");
    text.push_back('\0');
    return text;
}

Result<Reply> parse_reply(std::string_view text) {
    const Json message = TRY(parse_json(text, reply_depth));
    if (!message.is_object()) return malformed("not an object");
    Reply reply;
    for (const auto& [key, value] : message.items()) {
        if (key == "parameters")
            TRY(object_field(value, reply.parameters));
        else if (key == "error")
            TRY(text_field(value, reply.error));
        else if (key == "continues")
            TRY(flag(value, reply.continues));
        else
            return malformed("unknown field");
    }
    return reply;
}

std::string reply_text(const Json& parameters, bool continues) {
    auto text = R"({"parameters":)" + object_text(parameters) + (continues ? R"(,"continues":true})" : "}");
    text.push_back('\0');
    return text;
}

std::string error_text(std::string_view name, const Json& parameters) {
    auto text = R"({"error":)" + json_text(Json(name)) + R"(,"parameters":)" + object_text(parameters) + "}";
    text.push_back('\0');
    return text;
}

}  // namespace promwarden::varlink
