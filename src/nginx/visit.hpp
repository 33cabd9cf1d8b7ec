/// Internal to nginx: one request on its way through the phases. A subrequest is another visit that shares the variables of the first.
#pragma once

#include "regex.hpp"
#include "text.hpp"

namespace promwarden::nginx {

/// What a request and its subrequests share.
struct Shared {
    const Configuration& configuration;
    const Request& request;
    Target target;
    std::map<std::string, std::string, std::less<>> values;  // of maps, set and named groups, by lower-case name
    std::vector<Step> steps;
    std::string unknown;  // the first reason why the answer cannot be known; "" so far
    int depth = 0;        // of variables that are made of variables
    int runs = 0;         // of phases
};

/// How a request ends.
struct Outcome {
    Answer::Kind kind = Answer::Kind::unknown;
    int status = 0;
    std::string redirect;
    std::optional<Passed> passed;
    bool sent = false;  // an answer with a body of its own: not replaced by error_page, and its status gives way to one that error_page imposes
};

using Text = std::optional<std::string>;  // nullopt: it cannot be known, and `unknown` says why

class Visit {
public:
    Visit(Shared& shared, const Level& server) : shared_(shared), server_(server), level_(&server) {}

    /// The request itself.
    Outcome main();
    /// One that nginx refuses before it looks for a location.
    Outcome refuse(int code);
    [[nodiscard]] const Level& level() const { return *level_; }
    [[nodiscard]] const std::string& uri() const { return uri_; }
    [[nodiscard]] bool authenticated() const { return authenticated_; }

private:
    using Ending = std::optional<Outcome>;  // nullopt: it goes on

    static Outcome status(int code) { return {Answer::Kind::status, code, {}, {}, false}; }
    Outcome unknown(std::string reason);
    void step(const Directive* directive, std::string text) { shared_.steps.push_back({directive, std::move(text)}); }
    [[nodiscard]] bool stuck() const { return !shared_.unknown.empty(); }

    // evaluate.cpp: the phases
    Outcome subrequest(std::string_view target);
    Outcome run();
    Outcome phases(bool find);
    Outcome ending(Outcome outcome);
    Outcome error_page(const Directive& page, int code);
    Outcome internal_redirect(std::string uri, std::string args);
    Outcome named_location(const std::string& name);
    Ending try_files();
    Outcome content();
    Outcome static_content();
    Text file_path(const std::string& uri);

    // locate.cpp: which location
    enum class Found : std::uint8_t { exact, prefix, redirect, none, stuck };
    Found find(const Level& in);
    Found find_static(const Level& in);
    Ending find_location();
    void apply_limit_except();

    // rewrite.cpp: set, if, return, rewrite, break
    Ending rewrite(const Level& level);
    Ending rewrite(const std::vector<Directive>& block, const Level& level, bool& stop);
    Ending rewrite_rule(const Directive& directive, bool& stop);
    Ending give_back(const Directive& directive);
    std::optional<bool> condition(const Directive& directive);
    bool match(const Regex* regex, std::string_view text, bool& matched);

    // variables.cpp
    Text expand(std::string_view text);
    Text value(std::string_view name);
    Text simple(std::string_view name);
    Text mapped(std::string_view name, const Directive& map);
    Text header(std::string_view name);
    [[nodiscard]] std::string host() const;

    // access.cpp
    Ending access();
    std::optional<int> by_address();   // 0: allowed; -1: no rule
    std::optional<int> by_password();
    std::optional<int> by_request();

    // pass.cpp
    Outcome pass(const Directive& directive);
    std::optional<Passed> passed_to(const Directive& directive);
    bool pass_headers(Passed& passed);
    [[nodiscard]] const Directive* handler() const;

    Shared& shared_;
    const Level& server_;
    const Level* level_;
    std::string uri_, args_, method_ = "GET";
    Groups groups_;
    bool subrequest_ = false, internal_ = false, valid_unparsed_ = false, valid_location_ = true, quoted_ = false, plus_ = false;
    bool uri_changed_ = false, paged_ = false, authenticated_ = false, in_rewrite_args_ = false;
    int changes_ = 11;
};

}  // namespace promwarden::nginx
