// Names of users and groups to numbers.

#include <grp.h>
#include <pwd.h>

#include "promwarden/policy.hpp"

namespace promwarden {

namespace {

constexpr std::size_t longest_entry = 1 << 20;  // a group with thousands of members is long

class HostAccounts final : public Accounts {
public:
    [[nodiscard]] std::optional<uid_t> user(const std::string& name) const override {
        passwd entry{};
        return look_up<uid_t>([&](char* buffer, std::size_t size, bool& found) {
            passwd* result = nullptr;
            const int error = ::getpwnam_r(name.c_str(), &entry, buffer, size, &result);
            found = result != nullptr;
            return error;
        }, entry.pw_uid);
    }
    [[nodiscard]] std::optional<gid_t> group(const std::string& name) const override {
        ::group entry{};
        return look_up<gid_t>([&](char* buffer, std::size_t size, bool& found) {
            ::group* result = nullptr;
            const int error = ::getgrnam_r(name.c_str(), &entry, buffer, size, &result);
            found = result != nullptr;
            return error;
        }, entry.gr_gid);
    }

private:
    template <class Id, class Call>
    static std::optional<Id> look_up(Call call, const Id& id) {
        bool found = false;
        for (std::vector<char> buffer(4096); buffer.size() <= longest_entry; buffer.resize(buffer.size() * 4))
            if (call(buffer.data(), buffer.size(), found) != ERANGE) break;
        return found ? std::optional<Id>(id) : std::nullopt;
    }
};

template <class Id>
std::optional<Id> in(const std::map<std::string, Id>& known, const std::string& name) {
    const auto entry = known.find(name);
    return entry == known.end() ? std::nullopt : std::optional<Id>(entry->second);
}

}  // namespace

const Accounts& host_accounts() {
    static const HostAccounts accounts;
    return accounts;
}

std::optional<uid_t> RecordedAccounts::user(const std::string& name) const { return in(users, name); }
std::optional<gid_t> RecordedAccounts::group(const std::string& name) const { return in(groups, name); }

std::optional<uid_t> RecordingAccounts::user(const std::string& name) const {
    const auto id = from_.user(name);
    if (id) recorded_.users[name] = *id;
    return id;
}

std::optional<gid_t> RecordingAccounts::group(const std::string& name) const {
    const auto id = from_.group(name);
    if (id) recorded_.groups[name] = *id;
    return id;
}

}  // namespace promwarden
