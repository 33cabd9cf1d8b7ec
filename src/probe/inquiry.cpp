// A survey with a worker.

#include <poll.h>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

Result<Inquiry> Inquiry::begin(const ClientOptions& options, std::vector<Target> targets, bool has_user) {
    Inquiry inquiry(TRY(Client::open(options)), Survey(std::move(targets), has_user));
    TRY(inquiry.ask());
    return inquiry;
}

/// True where there is nothing left to ask.
Result<bool> Inquiry::ask() {
    const auto* request = survey_.next();
    if (request == nullptr) return true;
    TRY(client_.send(*request));
    return false;
}

Result<bool> Inquiry::proceed() {
    if (survey_.next() == nullptr) return true;
    const auto answer = TRY(client_.receive());
    if (!answer) return false;
    survey_.take(*answer);
    return ask();
}

Result<> Inquiry::wait(std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (survey_.next() != nullptr) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) return {};
        pollfd one{fd(), POLLIN, 0};
        if (::poll(&one, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) return fail_errno("wait for", "promwarden-probe");
        TRY(proceed());
    }
    return {};
}

}  // namespace promwarden::probe
