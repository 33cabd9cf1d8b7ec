/// Internal to the families that judge files by who can do what to them.
#pragma once

#include <functional>

#include "families.hpp"

namespace promwarden {

/// What was found out about one control, subject by subject, before it is a Decision.
class Findings {
public:
    /// The same remedy for the same subject counts once.
    void fail(Finding finding);
    /// Something could not be looked at.
    void unknown(std::string why);
    /// Something was there to judge.
    void touch() { touched_ = true; }
    Decision decision(std::string holds, std::string nothing) &&;

private:
    std::vector<Finding> findings_;
    std::vector<std::string> unknown_;
    std::size_t more_ = 0;
    bool touched_ = false;
};

/// Whose files they are, for those who ask who else can reach them.
struct FileContext {
    const Policy& policy;
    const FileFacts& facts;
    const ServerFiles& server;

    [[nodiscard]] std::string service() const { return facts.accounts.user_name(server.identity.uid); }
    /// The [[file]] rule that is about this path; null for none.
    [[nodiscard]] const FileRule* rule(const NamedFile& file) const;
};

/// A finding about a file, placed where the file is named.
Finding file_finding(const NamedFile& file, std::string expected, std::string observed, std::string remedy);
Finding file_finding(const NamedFile& file, std::string expected, std::string observed, Remedy remedy);

/// A file that was not reached: because the service could not reach it, it is not there, or we may not look.
enum class Reach : std::uint8_t { reached, missing, barred, unknown };
Reach reach_of(const NamedFile& file, const Identity& service);

/// Who else can do that: everybody of who_can but the service's user and those to whom the policy's rule gives it.
std::vector<Somebody> outsiders(Ability ability, const NamedFile& file, const FileContext& context, bool service_too = false);

/// Everyone who can change what the name stands for, at each place where they can: the file itself, or a directory on the way.
void judge_writers(Findings& findings, const NamedFile& file, const FileContext& context, bool service_too);
/// Secrets and databases: readers who are neither the service nor of its group.
void judge_readers(Findings& findings, const NamedFile& file, const FileContext& context);
/// The service has to read it.
void judge_readable(Findings& findings, const NamedFile& file, const FileContext& context);

/// The [[file]] rules of the policy about files of which `ours` is true.
void judge_rules(Findings& findings, const Policy& policy, const FileFacts& facts, const std::function<bool(const RuledFile&)>& ours);
/// What the configuration uses that path for; nullopt where it does not name it.
std::optional<NamedFile::Use> use_of(const FileFacts& facts, const std::string& path);

/// Calls `judge` with every file of every server. False where the facts are missing; then `findings` says why.
bool each_file(Findings& findings, const Policy& policy, const Facts& facts, const std::function<void(const NamedFile&, const FileContext&)>& judge);

}  // namespace promwarden
