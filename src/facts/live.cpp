#include <array>

#include "promwarden/live.hpp"

namespace promwarden::live {

std::string_view to_text(End end) {
    constexpr std::array<std::string_view, 8> names{"answered", "refused", "handshake", "closed", "timeout", "limit", "garbage", "failed"};
    return names[static_cast<std::size_t>(end)];
}

std::string_view to_text(TlsVersion version) {
    constexpr std::array<std::string_view, 4> names{"1.0", "1.1", "1.2", "1.3"};
    return names[static_cast<std::size_t>(version)];
}

std::string_view to_text(Asker asker) {
    constexpr std::array<std::string_view, 3> names{"a stranger", "a wrong password", "the probe's user"};
    return names[static_cast<std::size_t>(asker)];
}

}  // namespace promwarden::live
