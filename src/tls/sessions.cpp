// Sessions that outlive the belief in the authority that a client's certificate came from.

#include <algorithm>
#include <array>
#include <charconv>

#include "promwarden/server.hpp"
#include "promwarden/tls.hpp"

namespace promwarden::tls {

bool verifies_resumed(std::string_view go) {
    std::array<unsigned, 3> version{};
    const char* at = go.data();
    const char* const end = go.data() + go.size();
    for (auto& part : version) {
        const auto [next, error] = std::from_chars(at, end, part);
        if (error != std::errc{}) return false;
        at = next;
        if (at == end || *at != '.') break;
        ++at;
    }
    if (at != end) return false;  // "1.25rc1", and whatever else this is
    if (version < std::array{1u, 21u, 0u}) return true;
    return version >= (version[1] == 24 ? std::array{1u, 24u, 13u} : std::array{1u, 25u, 7u});
}

const Server* may_resume(std::span<const Server> servers, Time removed) {
    const auto unit = std::ranges::find(servers, Server::Kind::unit, &Server::kind);
    if (unit == servers.end() || !unit->process || verifies_resumed(unit->go)) return nullptr;
    return unit->started && *unit->started > removed ? nullptr : &*unit;
}

}  // namespace promwarden::tls
