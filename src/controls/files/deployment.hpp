/// Internal to the controls over Compose files and units: what was found about one file, and a command line of Prometheus wherever it is written.
#pragma once

#include "families.hpp"
#include "promwarden/deployment.hpp"
#include "promwarden/template.hpp"

namespace promwarden::deployment {

struct Spot {
    std::uint32_t line = 0, column = 0;
    std::string path;
    std::string file;  // "" for the file that is judged
};

/// What was found about one file.
class Notes {
public:
    Notes(const std::string& file, const LintOptions& options) : file_(file), options_(options) {}

    void fail(std::string_view control, const Spot& spot, std::string expected, std::string observed, std::string_view remedy);
    void undecided(std::string_view control, const Spot& spot, std::string_view why);
    void touch(std::string_view control, std::string_view holds);
    /// `nothing` is the reason of a control that had nothing to judge.
    std::vector<FileDecision> decisions(std::string_view nothing);

    [[nodiscard]] const LintOptions& options() const { return options_; }

private:
    struct Bin {
        std::string_view control;
        std::vector<Finding> findings;
        std::vector<std::string> undecided;
        std::string holds;
    };
    Bin& of(std::string_view control);

    const std::string& file_;
    const LintOptions& options_;
    std::vector<Bin> all_;
};

/// A word of a command line.
struct Word {
    std::string text;
    Spot at;
};

struct CommandText {
    std::vector<Word> words;
    bool whole = true;    // else words are missing: variables, or what a template's conditions add
    bool on_host = true;  // its sockets are the host's own
    bool script = false;  // words of a shell script: only switches that stand there literally count
};
void judge_command(Notes& notes, const CommandText& command);
/// A variable of the environment that holds a secret.
void judge_variable(Notes& notes, std::string_view name, std::string_view value, const Spot& spot);

/// Whether an image is Prometheus itself.
bool is_prometheus_image(std::string_view image);
/// "9090:9090", "127.0.0.1:9090:9090/tcp", "[::1]::9090": the short form of a publication. `whole`: nothing in it is filled in later.
void judge_publication(Notes& notes, std::string_view text, bool whole, const Spot& spot, std::string_view port);

constexpr std::string_view published = "network.published-ports", companions = "network.companion-ports",
                           listening = "network.listen-address", secrets = "secrets.process", admin = "api.admin",
                           lifecycle = "api.lifecycle", receivers = "api.receivers", cors = "api.cors", limits = "api.query-limits",
                           sandbox = "config.service-sandbox", startable = "config.startable";

/// One publication taken apart.
struct PublishedPort {
    std::string address, host, container;  // "" where it is not given
    bool udp = false;
    bool whole = true;
};
std::optional<PublishedPort> read_publication(std::string_view text);
/// Whether a list of ports ("9090", "9000-9100") has that one.
bool names_port(std::string_view ports, std::string_view wanted);
bool stays_on_loopback(std::string_view address);
void judge_publication(Notes& notes, const PublishedPort& publication, const Spot& spot, std::string_view port);

}  // namespace promwarden::deployment
