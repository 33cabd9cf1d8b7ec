// The parts of `parse`: one function per table of the policy. Each reads by the schema, then checks what the schema cannot say.
#pragma once

#include <functional>

#include "reader.hpp"

namespace promwarden::policy {

struct Build {
    const Sources& sources;
    const Accounts& accounts;
    ParsedLists& lists;
    Notes& notes;
};

PrometheusPolicy build_prometheus(const Reader& table);
FirewallPolicy build_firewall(const Reader& table, const Build& build);
TlsPolicy build_tls(const Reader& table);
AccessPolicy build_access(const Reader& table, const TlsPolicy& tls);
std::vector<FileRule> build_files(const Reader& root, const Build& build);
std::vector<Waiver> build_waivers(const Reader& root);

/// A user's number; an unknown one is reported.
std::optional<Account> find_user(const std::string& name, Place at, const Build& build);

/// "did you mean 'x'?", or nothing.
std::string nearest_hint(std::string_view word, const std::vector<std::string_view>& candidates);

/// The path of a list as a policy file names it ("@offices.txt" is beside that file); nullopt where the text names none.
std::optional<std::string> list_path(std::string_view text, const std::string& named_in);

/// Reports names that come twice among the blocks of one kind.
class Unique {
public:
    Unique(std::string kind, Notes& notes) : kind_(std::move(kind)), notes_(notes) {}
    bool add(const std::string& name, Place at);

private:
    std::string kind_;
    Notes& notes_;
    std::map<std::string, Place> seen_;
};

}  // namespace promwarden::policy
