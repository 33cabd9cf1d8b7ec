#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "promwarden/base.hpp"

namespace promwarden {

namespace {

Code code_of(int number) {
    switch (number) {
        case ENOENT: case ENOTDIR: case ESRCH: return Code::missing;
        case EPERM: case EACCES: return Code::denied;
        case EOPNOTSUPP: case ENOSYS: case EPROTONOSUPPORT: case EAFNOSUPPORT: return Code::unsupported;
        case ERESTART: case ESTALE: return Code::stale;
        case EBUSY: case EEXIST: case EADDRINUSE: return Code::conflict;
        case EINVAL: case ELOOP: case EISDIR: case ENAMETOOLONG: return Code::invalid;
        case ENFILE: case EMFILE: case ENOBUFS: case EMSGSIZE: case EFBIG: return Code::limit;
        default: return Code::failed;
    }
}

}  // namespace

std::string Error::text() const {
    std::string text = action;
    if (!subject.empty()) text += (text.empty() ? "" : " ") + subject;
    if (!detail.empty()) text += (text.empty() ? "" : ": ") + detail;
    if (number != 0) text += (text.empty() ? "" : ": ") + std::generic_category().message(number);
    return text;
}

std::unexpected<Error> fail(Code code, std::string action, std::string subject, std::string detail) {
    return std::unexpected(Error{code, 0, std::move(action), std::move(subject), std::move(detail)});
}

std::unexpected<Error> fail_errno(std::string action, std::string subject, int number) {
    return std::unexpected(Error{code_of(number), number, std::move(action), std::move(subject), {}});
}

Fd& Fd::operator=(Fd&& other) noexcept {
    if (this != &other) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
}

Fd::~Fd() {
    if (fd_ >= 0) ::close(fd_);
}

}  // namespace promwarden
