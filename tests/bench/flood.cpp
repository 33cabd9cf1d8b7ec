// Sends UDP datagrams as fast as the kernel takes them: flood ADDRESS PORT COUNT. Prints packets per second.
// Over a veth pair the receiver's rules run in the sender's own time, so what a rule costs is seen here.

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(std::atoi(argv[2])));
    if (::inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) return 2;
    const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) return 1;
    std::array<char, 64> payload{};
    iovec part{payload.data(), payload.size()};
    std::array<mmsghdr, 64> messages{};
    for (auto& message : messages) message.msg_hdr.msg_iov = &part, message.msg_hdr.msg_iovlen = 1;
    const long count = std::atol(argv[3]);
    const auto start = std::chrono::steady_clock::now();
    for (long sent = 0; sent < count;) {
        const int now = ::sendmmsg(fd, messages.data(), messages.size(), 0);
        if (now < 0 && errno == ECONNREFUSED) continue;
        if (now < 0) return 1;
        sent += now;
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    std::printf("%.0f\n", static_cast<double>(count) / taken.count());
    ::close(fd);
}
