#include <algorithm>

#include "connection.hpp"

namespace promwarden::varlink {

Call::Call(std::shared_ptr<Connection> connection, std::string method, Json parameters, bool more, bool oneway)
    : connection_(connection),
      method_(std::move(method)),
      parameters_(std::make_unique<Json>(std::move(parameters))),
      peer_(connection->peer()),
      more_(more),
      oneway_(oneway) {}

Call::Call(Call&& other) noexcept = default;

Call& Call::operator=(Call&& other) noexcept {
    if (this == &other) return *this;
    abandon();
    connection_ = std::exchange(other.connection_, {});
    method_ = std::move(other.method_);
    parameters_ = std::move(other.parameters_);
    peer_ = other.peer_;
    more_ = other.more_;
    oneway_ = other.oneway_;
    return *this;
}

Call::~Call() { abandon(); }

void Call::abandon() {
    if (const auto connection = take()) connection->close();
}

bool Call::alive() const {
    const auto connection = connection_.lock();
    return connection != nullptr && connection->alive();
}

/// The connection, to be answered now; none when it was answered before, has gone, or wants no answer.
std::shared_ptr<Connection> Call::take() {
    auto connection = std::exchange(connection_, {}).lock();
    if (connection == nullptr || !connection->alive()) return nullptr;
    if (!oneway_) return connection;
    connection->skip();
    return nullptr;
}

void Call::reply(const Json& parameters) {
    if (const auto connection = take()) connection->answer(connection->checked(reply_text(parameters, false)));
}

void Call::error(std::string_view name, const Json& parameters) {
    if (const auto connection = take()) connection->answer(connection->checked(error_text(name, parameters)));
}

void Call::error(std::string_view name) { error(name, Json::object()); }

void Call::invalid_parameter(std::string_view parameter) { error("org.varlink.service.InvalidParameter", {{"parameter", parameter}}); }

bool Call::push(const Json& event) { return push_text(std::make_shared<const std::string>(reply_text(event, true))); }

bool Call::push_text(const Text& text) {
    const auto connection = connection_.lock();
    return connection != nullptr && more_ && connection->push(text);
}

void Call::reply_in_parts(std::function<bool(Json& part)> next) {
    if (const auto connection = take()) connection->answer_in_parts(std::move(next), more_);
}

void Subscribers::forget_dead() {
    std::erase_if(calls_, [](const Call& call) { return !call.alive(); });
}

void Subscribers::add(Call call) {
    forget_dead();
    calls_.push_back(std::move(call));
}

void Subscribers::push(const Json& event) {
    forget_dead();
    if (calls_.empty()) return;
    const auto text = std::make_shared<const std::string>(reply_text(event, true));
    for (auto& call : calls_) call.push_text(text);
}

std::size_t Subscribers::size() const { return static_cast<std::size_t>(std::ranges::count_if(calls_, &Call::alive)); }

}  // namespace promwarden::varlink
