/// plan — what an apply would do, as values: changes, each with what it does to one name on this host, how it is taken up, and how it is taken back.
///
/// A Plan is made by comparing what should be with what is; it is what a dry run prints and what an apply carries out, so that there is no second path. A change
/// knows what was there before: that is its precondition, and what an undo puts back. Pure.
#pragma once

#include <span>
#include <variant>

#include "promwarden/access.hpp"

namespace promwarden {

// ---- deeds ----------------------------------------------------------------------------------------------------------

/// A text in pieces: what it says itself, or what another file holds. So a secret that moves into a file of its own is not copied into what an undo remembers.
struct Piece {
    struct Part {
        std::size_t at = 0, length = 0;
        bool operator==(const Part&) const = default;
    };
    std::string text;
    std::string from;                // path of the file whose text stands here; "": `text` does
    std::optional<Part> part = {};   // only these bytes of it
    bool operator==(const Piece&) const = default;
};
using Contents = std::vector<Piece>;

/// Owner, group, mode and access list of a file or directory, which stays where and what it is.
using SetAccess = AccessChange;

/// The text of a regular file. nullopt: there is none of that name.
struct WriteFile {
    std::optional<Contents> before, after;
    FileAccess access;  // of a new file; one that is there keeps its own
    std::optional<mode_t> directory = {};  // the directory has to be made for it, with this mode; it belongs to root and the file's group
    bool operator==(const WriteFile&) const = default;
};

/// Some bytes of a file that is there; all others are not even remembered, because there may be secrets among them. Owner, group, mode and access list stay.
struct EditFile {
    struct Splice {
        std::size_t before_at = 0, after_at = 0;  // where, in the text before and after
        Contents before, after;                   // what goes, and what stands there instead
        bool operator==(const Splice&) const = default;
    };
    std::vector<Splice> splices;     // in their order, none within another
    std::string before, after;       // SHA-256 of the whole text
    bool operator==(const EditFile&) const = default;
};

/// The target of a symbolic link. nullopt: there is none of that name.
struct PointLink {
    std::optional<std::string> before, after;
    bool operator==(const PointLink&) const = default;
};

/// What is done to one name. monostate: something that is not a file, as the ruleset.
using Deed = std::variant<std::monostate, SetAccess, WriteFile, PointLink, EditFile>;
/// What takes it back.
Deed inverse(const Deed& deed);

Json to_json(const Deed& deed);
Result<Deed> read_deed(const Json& json);

/// Who judges a file before it gets its name. Each is a program of its own, beside our own reader. nginx judges its whole configuration with the file in it.
enum class Judge : std::uint8_t { nobody, promtool_config, promtool_web_config, promtool_rules, nginx };

/// Who has to take a change up, in the order in which they do.
enum class Effect : std::uint8_t {
    none,     // it is true at once
    units,    // the service manager reads its units again; the service has it from its next start on
    reload,   // Prometheus reads its configuration again
    restart,  // Prometheus starts again, its unit read again before
    proxy,    // nginx tests its configuration and reads it again
};
std::string_view to_text(Effect effect);

// ---- changes --------------------------------------------------------------------------------------------------------

/// One thing that an apply would change.
struct Change {
    enum class Kind : std::uint8_t { firewall, file, unit, web, rules, site } kind = Kind::firewall;
    std::string control;  // the control that asks for it: "network.packet-filter"
    std::string subject;  // "table inet promwarden", "/etc/prometheus/web.yml": the name that a deed is done to
    std::string summary;  // one line for a person
    std::string diff;     // lines that begin with "+", "-" or a space; may be many
    Deed deed = {};
    Judge judge = Judge::nobody;
    Effect effect = Effect::none;
    bool on_request = false;  // an apply makes it only where it is asked to edit what people write: prometheus.yml
    bool operator==(const Change&) const = default;
};

/// How a deed looks: a unified diff, or the access before and after. A line that holds one of these secrets is not shown.
std::string diff_of(const std::string& subject, const Deed& deed, std::span<const std::string> secrets = {});

struct Plan {
    std::vector<Change> changes;
    std::vector<std::string> cuts;  // live connections that would end: "203.0.113.5:51234 -> 10.0.0.1:9090"
    std::vector<std::string> refusals = {};  // what a control asks for and is not done, and why: "/etc/prometheus/web.yml: it is a symbolic link"

    [[nodiscard]] bool empty() const { return changes.empty(); }
    bool operator==(const Plan&) const = default;
};

std::string_view to_text(Change::Kind kind);
Json to_json(const Plan& plan);  // schema promwarden.plan/1; deeds are not in it
/// From to_json's value, as the agent sends it.
Result<Plan> read_plan(const Json& json);

}  // namespace promwarden
