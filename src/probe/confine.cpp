// What the worker gives up before it looks at anything a stranger wrote.

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

namespace {

Result<bool> has_capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0) return fail_errno("read", "the capabilities");
    return std::ranges::any_of(data, [](const auto& word) { return (word.effective | word.permitted | word.inheritable) != 0; });
}

void limit(__rlimit_resource resource, rlim_t most) {
    rlimit now{};
    if (::getrlimit(resource, &now) != 0) return;
    now.rlim_max = std::min(now.rlim_max, most);
    now.rlim_cur = now.rlim_max;
    ::setrlimit(resource, &now);
}

}  // namespace

Result<> confine() {
    if (::getuid() == 0 || ::geteuid() == 0) return fail(Code::denied, "start", "promwarden-probe", "it talks to strangers and never runs as root");
    if (TRY(has_capabilities())) return fail(Code::denied, "start", "promwarden-probe", "it talks to strangers and never runs with a capability");
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("give up", "new privileges");
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // the password and the key in our memory are nobody else's, not even of the same user
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NOFILE, 64);
    limit(RLIMIT_NPROC, 0);  // no thread, no child
#ifndef __SANITIZE_ADDRESS__
    limit(RLIMIT_AS, 512UL << 20);  // libcurl's libraries are mapped in it, too
#endif
    return {};
}

}  // namespace promwarden::probe
