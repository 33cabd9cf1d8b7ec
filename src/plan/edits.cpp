// Edits of web.yml and prometheus.yml, as the findings ask for them. A secret gets a file of its own first; then the text changes where it stood. Pure.

#include "edits.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>
#include <fnmatch.h>

#include "promwarden/diff.hpp"
#include "promwarden/values.hpp"
#include "splice.hpp"

namespace promwarden {

namespace {

using prometheus::Document;
using yaml::Edit;

constexpr std::string_view secrets_control = "secrets.inline";
constexpr std::string_view controls[] = {"tls.protocol",      "tls.client-auth",  "tls.scrape",      "tls.remote-write",
                                         "tls.other-clients", "labels.redaction", "audit.query-log", secrets_control};
constexpr std::size_t without_request = 2;  // of these: what they ask for is in web.yml
constexpr const char* secrets_directory = "/etc/prometheus/promwarden/";
constexpr mode_t secrets_directory_mode = 02750, secret_mode = 0640;

/// "2.42.0" → 242.
std::optional<prometheus::Version> version_of(std::string_view text) {
    unsigned major = 0, minor = 0;
    const auto* end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, major);
    if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '.' || std::from_chars(first.ptr + 1, end, minor).ec != std::errc{} ||
        major > 100 || minor > 99)
        return std::nullopt;
    return static_cast<prometheus::Version>(100 * major + minor);
}

bool is_web(const NamedFile& file) { return file.use == NamedFile::Use::web; }

Document document_of(const NamedFile& file, std::string_view text) {
    return prometheus::read_document(file.path, text, is_web(file) ? prometheus::FileKind::web : prometheus::FileKind::prometheus);
}

/// Why nothing is written to it; "" where it may be.
std::string closed(const NamedFile& file) {
    if (!file.trusted) return "somebody else than root chose its name";
    for (const auto& step : file.steps) {
        if (step.status.type == FileStatus::Type::link)
            return fmt::format("{} is a symbolic link: whoever made it manages the file", step.path);
        const bool open = step.status.type == FileStatus::Type::directory &&
                          (step.status.owner != 0 || ((step.status.mode & 022) != 0 && (step.status.mode & 01000) == 0));
        if (open) return fmt::format("somebody else than root can put another file in its place, by {}", step.path);
    }
    return {};
}

// ---- what is asked for ----------------------------------------------------------------------------------------------

/// One edit, and the secret that it moves, if it does.
struct Wish {
    Edit edit;
    std::string secret;  // path of the value in the document
    std::string file;    // that it moves to
};

/// The edits of one control in one file.
struct Group {
    std::string control;
    bool enforced = false;
    std::vector<Wish> wishes;
};

/// An expression that catches these words however they are written; nullopt where what it catches now cannot be told, or where it would take what tells series apart.
std::optional<std::string> corrected(std::string_view regex, const std::vector<std::string>& words) {
    constexpr std::string_view begin = "(?i).*(", end = ").*";
    if (regex.starts_with(begin) && regex.ends_with(end) && regex.size() > begin.size() + end.size())
        regex = regex.substr(begin.size(), regex.size() - begin.size() - end.size());
    else if (regex.starts_with('(') && regex.ends_with(')'))
        regex = regex.substr(1, regex.size() - 2);
    const bool plain = !regex.empty() && std::ranges::all_of(regex, [](unsigned char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '|' || c == '?';
    });
    if (!plain) return std::nullopt;
    auto all = std::string(regex);
    for (const auto& word : words)
        if (!("|" + all + "|").contains("|" + word + "|")) all += "|" + word;
    auto result = fmt::format("{}{}{}", begin, all, end);
    constexpr std::string_view identity[] = {"__name__", "job", "instance", "le", "quantile"};
    const auto caught = prometheus::matches(result, identity);
    if (!caught || std::ranges::find(*caught, true) != caught->end()) return std::nullopt;
    return result;
}

class Wishes {
public:
    Wishes(const Policy& policy, const ServerFiles& server, const Plan& plan, std::set<std::string>& taken)
        : policy_(policy), server_(server), plan_(plan), taken_(taken) {}

    /// For that file, secrets first: what stands in them is told by its place in the text as it is now.
    std::vector<Group> of(const NamedFile& file, const Document& document, const Report& report) {
        std::vector<Group> groups;
        for (const auto& one : report.controls) {
            if (one.decision.verdict != Verdict::fail || one.waived || std::ranges::find(controls, one.control->id) == std::end(controls))
                continue;
            Group group{std::string(one.control->id), one.mode == Mode::enforce, {}};
            for (const auto& finding : one.decision.findings)
                if (finding.location && finding.location->file == file.path)
                    if (auto wish = answer(one.control->id, finding, document);
                        wish && std::ranges::find(group.wishes, wish->edit, &Wish::edit) == group.wishes.end())
                        group.wishes.push_back(*std::move(wish));
            if (!group.wishes.empty()) groups.push_back(std::move(group));
        }
        if (auto listing = list_rules(file, document)) groups.push_back(*std::move(listing));
        std::ranges::stable_sort(groups, {},
                                 [](const Group& group) { return std::pair(!group.enforced, group.control != secrets_control); });
        return groups;
    }

private:
    std::optional<Wish> answer(std::string_view control, const Finding& finding, const Document& document) {
        const auto& path = finding.location->path;
        if (control == secrets_control) return move_secret(path, document);
        if (control == "audit.query-log")
            return policy_.query_log.empty() || document.kind != prometheus::FileKind::prometheus
                       ? std::nullopt
                       : std::optional(Wish{{Edit::Kind::set, "global.query_log_file", policy_.query_log}, {}, {}});
        if (control == "labels.redaction") return redact(path, document);
        if (control == "tls.protocol")
            return path.ends_with("_version")
                       ? std::optional(Wish{
                             {Edit::Kind::set, path, path.ends_with("min_version") && policy_.tls.min_version == "1.2" ? "TLS12" : "TLS13"},
                             {},
                             {}})
                       : std::nullopt;
        if (control == "tls.client-auth") return require_clients(document);
        return path.ends_with(".insecure_skip_verify") ? std::optional(Wish{{Edit::Kind::remove, path}, {}, {}}) : std::nullopt;
    }

    /// Only with an authority that they are to show a certificate of.
    std::optional<Wish> require_clients(const Document& document) const {
        const auto* tls = document.root->find("tls_server_config");
        constexpr std::string_view wanted = "RequireAndVerifyClientCert";
        const auto given = [&](std::string_view key) { return tls != nullptr && tls->find(key) != nullptr && !tls->find(key)->null(); };
        const auto* type = tls == nullptr ? nullptr : tls->find("client_auth_type");
        if ((!given("client_ca_file") && !given("client_ca")) || (type != nullptr && type->scalar() == wanted)) return std::nullopt;
        return Wish{{Edit::Kind::set, "tls_server_config.client_auth_type", std::string(wanted)}, {}, {}};
    }

    std::optional<Wish> redact(const std::string& path, const Document& document) const {
        if (!path.ends_with("].regex")) return std::nullopt;
        const auto* node = yaml::node_at(document.root, path);
        const auto regex = node == nullptr ? std::nullopt : corrected(node->scalar(), policy_.redact_labels);
        return regex ? std::optional(Wish{{Edit::Kind::set, path, *regex}, {}, {}}) : std::nullopt;
    }

    std::optional<Wish> move_secret(const std::string& path, const Document& document) {
        const auto values = prometheus::secret_values(document);
        const auto value = std::ranges::find(values, path, &prometheus::SecretValue::path);
        const auto* twin = value == values.end() ? nullptr : prometheus::file_twin(*value->key, version_of(server_.version));
        if (twin == nullptr) return std::nullopt;  // the finding says what to do instead
        auto file = file_for(path, document);
        return Wish{{Edit::Kind::replace, path, file, std::string(twin->name)}, path, std::move(file)};
    }

    /// "/etc/prometheus/promwarden/node-basic_auth-password", which nothing names yet.
    std::string file_for(const std::string& path, const Document& document) {
        auto rest = std::string_view(path);
        std::string name;
        const auto item = path.find("]");
        const auto* job = item == std::string::npos ? nullptr : yaml::node_at(document.root, path.substr(0, item + 1));
        job = job == nullptr ? nullptr : job->find("job_name") != nullptr ? job->find("job_name") : job->find("name");
        if (job != nullptr && !job->scalar().empty()) {
            name = job->scalar();
            rest.remove_prefix(item + 1);
        }
        name += rest;
        for (auto& c : name)
            if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) c = '-';
        name.erase(std::ranges::unique(name, [](char a, char b) { return a == '-' && b == '-'; }).begin(), name.end());
        name.erase(0, std::min(name.find_first_not_of('-'), name.size()));
        if (name.size() > 120) name.resize(120);
        auto file = secrets_directory + name;
        for (int more = 2; !taken_.insert(file).second; ++more) file = fmt::format("{}{}-{}", secrets_directory, name, more);
        return file;
    }

    /// A rule file that is there or about to be must be listed where Prometheus reads its own.
    [[nodiscard]] std::optional<Group> list_rules(const NamedFile& file, const Document& document) const {
        if (file.use != NamedFile::Use::configuration) return std::nullopt;
        const auto rules = std::ranges::find(plan_.changes, Change::Kind::rules, &Change::kind);
        if (rules == plan_.changes.end()) return std::nullopt;
        const auto* list = document.root->find("rule_files");
        const auto directory = file.path.substr(0, file.path.rfind('/') + 1);
        for (const auto* item : list == nullptr ? std::span<const yaml::Node* const>{} : list->items) {
            const auto pattern = (item->scalar().starts_with('/') ? "" : directory) + std::string(item->scalar());
            if (::fnmatch(pattern.c_str(), rules->subject.c_str(), FNM_PATHNAME) == 0) return std::nullopt;
        }
        return Group{rules->control,
                     policy_.mode_of(rules->control) == Mode::enforce,
                     {{{Edit::Kind::append, "rule_files", rules->subject}, {}, {}}}};
    }

    const Policy& policy_;
    const ServerFiles& server_;
    const Plan& plan_;
    std::set<std::string>& taken_;
};

// ---- from edits to changes ------------------------------------------------------------------------------------------

std::string summary_of(const Group& group) {
    const auto& edit = group.wishes.front().edit;
    const auto more = group.wishes.size() == 1 ? "" : fmt::format(", and {} more", group.wishes.size() - 1);
    switch (edit.kind) {
        case Edit::Kind::replace:
            return fmt::format("{} moves to a file of its own{}", edit.path, more);
        case Edit::Kind::remove:
            return fmt::format("{} goes{}", edit.path, more);
        case Edit::Kind::append:
            return fmt::format("{} lists {}{}", edit.path, edit.value, more);
        case Edit::Kind::set:
            return fmt::format("{}: {}{}", edit.path, edit.value, more);
    }
    return {};
}

/// The text of one file on its way through the groups of edits.
class Editing {
public:
    Editing(const NamedFile& file, const ServerFiles& server, bool own_directory, Plan& plan)
        : file_(file), server_(server), own_directory_(own_directory), plan_(plan), text_(*file.text) {}

    void take(const Group& group) {
        auto after = text_;
        std::vector<MovedSecret> moved;
        const auto document = document_of(file_, text_);
        Group done{group.control, group.enforced, {}};
        for (const auto& wish : group.wishes) {
            const auto secret = wish.secret.empty() ? std::optional<MovedSecret>{} : locate(document, wish);
            auto edited =
                wish.secret.empty() || secret
                    ? yaml::edit(file_.path, after, {&wish.edit, 1})
                    : fail(
                          Code::invalid, "edit", file_.path,
                          fmt::format(
                              "{} is written with escapes, on several lines or with blanks around it: it moves to a file only as it stands",
                              wish.secret));
            if (!edited) {
                plan_.refusals.push_back(fmt::format("{} ({})", edited.error().text(), group.control));
                continue;
            }
            after = *std::move(edited);
            if (secret) moved.push_back(*secret);
            done.wishes.push_back(wish);
        }
        if (after != text_) add(done, std::move(after), std::move(moved), document);
    }

private:
    std::optional<MovedSecret> locate(const Document& document, const Wish& wish) const {
        const auto* node = yaml::node_at(document.root, wish.secret);
        const auto range = node == nullptr ? std::nullopt : yaml::characters_of(text_, *node);
        const bool blanks = node != nullptr && !node->text.empty() &&
                            (std::string_view(" \t").contains(node->text.front()) ||
                             std::string_view(" \t").contains(node->text.back()));  // Prometheus takes them off what it reads from a file
        return range && !blanks ? std::optional(MovedSecret{*range, wish.file}) : std::nullopt;
    }

    void add(const Group& group, std::string after, std::vector<MovedSecret> moved, const Document& document) {
        std::ranges::sort(moved, {}, [](const MovedSecret& one) { return one.range.at; });
        auto edit = edit_of(text_, after, moved);
        const auto stays = secrets_that_stay(document, group);
        for (const auto& splice : edit.splices)
            for (const auto& piece : splice.before)
                if (std::ranges::any_of(stays, [&](const std::string& secret) { return piece.text.contains(secret); })) {
                    plan_.refusals.push_back(
                        fmt::format("edit {}: a secret that stays stands beside what would change ({})", file_.path, group.control));
                    return;
                }
        for (const auto& wish : group.wishes)
            if (!wish.secret.empty())
                plan_.changes.push_back(secret_file(group, wish, *std::ranges::find(moved, wish.file, &MovedSecret::file)));
        const bool web = is_web(file_);
        Change change{web ? Change::Kind::web : Change::Kind::file,
                      group.control,
                      file_.path,
                      summary_of(group),
                      "",
                      {},
                      web ? Judge::promtool_web_config : Judge::promtool_config,
                      Effect::reload,
                      !web};
        change.diff = moved.empty() ? patch(after, document, stays) : diff_of(change.subject, edit);
        change.deed = std::move(edit);
        plan_.changes.push_back(std::move(change));
        text_ = std::move(after);
    }

    Change secret_file(const Group& group, const Wish& wish, const MovedSecret& moved) const {
        WriteFile deed{std::nullopt,
                       Contents{{"", file_.path, Piece::Part{moved.range.at, moved.range.length}}},
                       {0, server_.identity.gid, secret_mode, {}},
                       own_directory_ ? std::nullopt : std::optional(secrets_directory_mode)};
        return {Change::Kind::file,
                group.control,
                wish.file,
                fmt::format("a file for the value of {}", wish.secret),
                fmt::format("+ <hidden>, {}\n", to_text(deed.access)),
                std::move(deed),
                Judge::nobody,
                Effect::none,
                true};
    }

    /// Short ones are in many words: those are kept out of sight by their lines.
    static std::vector<std::string> secrets_that_stay(const Document& document, const Group& group) {
        std::vector<std::string> secrets;
        for (const auto& value : prometheus::secret_values(document))
            if (value.node->text.size() >= 4 && std::ranges::find(group.wishes, value.path, &Wish::secret) == group.wishes.end())
                secrets.emplace_back(value.node->text);
        return secrets;
    }

    /// As `patch -p1` takes it. No line that holds a secret, or says where one is, is in it.
    [[nodiscard]] std::string patch(std::string_view after, const Document& document, const std::vector<std::string>& secrets) const {
        std::set<std::string_view> lines;
        std::vector<std::string_view> all;
        for (auto rest = std::string_view(text_); !rest.empty();) {
            const auto end = std::min(rest.find('\n'), rest.size() - 1) + 1;
            all.push_back(rest.substr(0, end));
            rest.remove_prefix(end);
        }
        yaml::Extents extents;
        const auto tree = yaml::read(text_, extents);
        for (const auto& value : prometheus::secret_values(document)) {
            const auto* node = tree && !tree->documents.empty() ? yaml::node_at(tree->documents.front(), value.path) : nullptr;
            const auto first = value.node->at.line,
                       last = node == nullptr ? first : std::max(first, extents[node].end.line - (extents[node].end.column == 1 ? 1 : 0));
            for (auto line = first; line > 0 && line <= last && line <= all.size(); ++line) lines.insert(all[line - 1]);
        }
        constexpr std::string_view words[] = {"password", "secret", "token", "credential", "bearer", "key"};
        return unified_diff(text_, after, file_.path, [&](std::string_view line) {
            const auto first = line.find_first_not_of(" \t");
            const bool comment = first != std::string_view::npos && line[first] == '#';
            return lines.contains(line) || line.contains(secrets_directory) ||
                   std::ranges::any_of(secrets, [&](const std::string& secret) { return line.contains(secret); }) ||
                   (comment && std::ranges::any_of(words, [&](std::string_view word) { return line.contains(word); }));
        });
    }

    const NamedFile& file_;
    const ServerFiles& server_;
    bool own_directory_;
    Plan& plan_;
    std::string text_;
};

void edit_file(const Policy& policy, const ServerFiles& server, const NamedFile& file, const Report& report, std::set<std::string>& taken,
               bool own_directory, Plan& plan) {
    const auto document = document_of(file, *file.text);
    if (document.root == nullptr || document.problem || document.repaired || document.templated) return;  // other findings say so
    const auto groups = Wishes(policy, server, plan, taken).of(file, document, report);
    if (groups.empty()) return;
    if (const auto why = closed(file); !why.empty()) return plan.refusals.push_back(fmt::format("edit {}: {}", file.path, why));
    Editing editing(file, server, own_directory, plan);
    for (const auto& group : groups) editing.take(group);
}

}  // namespace

std::span<const std::string_view> controls_by_edit(bool on_request) {
    return std::span(controls).first(on_request ? std::size(controls) : without_request);
}

void plan_edits(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan) {
    if (!facts.files) return;
    for (const auto& server : facts.files->servers) {
        if (server.server != policy.prometheus.unit) continue;
        std::set<std::string> taken;
        for (const auto& file : server.files) taken.insert(file.path);
        for (const auto& file : server.files)
            if (file.text != nullptr &&
                (is_web(file) || file.use == NamedFile::Use::configuration || file.use == NamedFile::Use::scrape_configs))
                edit_file(policy, server, file, report, taken, facts.own_directory, plan);
    }
}

}  // namespace promwarden
