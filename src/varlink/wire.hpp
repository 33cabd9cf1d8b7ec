// The wire: bytes to messages, messages to values and back. Pure.
#pragma once

#include <nlohmann/json.hpp>

#include "promwarden/base.hpp"

namespace promwarden::varlink {

/// Bytes that arrived, cut into messages. Empty, it owns no memory.
class Inbox {
public:
    void append(std::string_view bytes) { bytes_.append(bytes); }
    [[nodiscard]] std::string_view rest() const { return std::string_view(bytes_).substr(taken_); }
    [[nodiscard]] bool empty() const { return rest().empty(); }
    /// The first message without its NUL, if it has arrived whole. Looks at no byte twice.
    [[nodiscard]] std::optional<std::string_view> message();
    /// Removes that message.
    void take(std::string_view message);
    void clear();

private:
    std::string bytes_;
    std::size_t taken_ = 0;    // bytes of messages already taken
    std::size_t scanned_ = 0;  // no NUL from taken_ up to here
};

struct Request {
    std::string method;
    Json parameters = Json::object();
    bool more = false, oneway = false, upgrade = false;
};
Result<Request> parse_request(std::string_view text, int depth, std::size_t members);
std::string request_text(std::string_view method, const Json& parameters, bool more);

struct Reply {
    Json parameters = Json::object();
    std::string error;
    bool continues = false;
};
Result<Reply> parse_reply(std::string_view text);
std::string reply_text(const Json& parameters, bool continues);
std::string error_text(std::string_view name, const Json& parameters);

}  // namespace promwarden::varlink
