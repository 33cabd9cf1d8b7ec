/// Internal to the proxy controls: the routes that lead to Prometheus, and where findings about them are collected.
#pragma once

#include <array>

#include "promwarden/site.hpp"

namespace promwarden::proxy {

using nginx::Answer;
using nginx::Configuration;
using nginx::Directive;
using nginx::Level;
using nginx::Request;

enum class Id : std::uint8_t {
    authentication, roles, coverage,
    tls_only, literal_upstream, auth_request, no_bypass, canonical_uri, credential_stripping,
    server, protocol, other_clients, federation, profiling, proxy_log,
    count_,
};

struct Bin {
    std::vector<Finding> findings;
    std::vector<std::string> undecided;
    bool touched = false;
    std::string absent;  // why there is nothing to judge, where that is not because nothing leads to Prometheus
};

/// A block with a proxy_pass that leads to Prometheus.
struct Way {
    const nginx::Server* server = nullptr;
    const Level* level = nullptr;
    const Directive* pass = nullptr;
    std::string authority;  // as proxy_pass names it, variables filled in
    std::string base;       // what stands before Prometheus' own paths in a request: "/prometheus", or ""
};

class Judge {
public:
    Judge(const Configuration& configuration, const SiteOptions& options);
    std::vector<FileDecision> run();

private:
    // judge.cpp
    void find_ways();
    void find_ways(const nginx::Server& server, const Level& level);
    void fail(Id id, const Level& level, const Directive* directive, std::string expected, std::string observed, std::string remedy);
    void undecided(Id id, const Level& level, const Directive* directive, std::string_view why);
    void touch(Id id) { of(id).touched = true; }
    [[nodiscard]] Bin& of(Id id) { return bins_[static_cast<std::size_t>(id)]; }
    [[nodiscard]] bool wanted(Id id) const;
    [[nodiscard]] bool prometheus(std::string_view authority) const;
    [[nodiscard]] Location location(const Level& level, const Directive* directive) const;
    Decision decide(Id id);

    // requests.cpp
    [[nodiscard]] Answer ask(const Way& way, std::string_view path, Request request) const;
    /// The path that Prometheus gets, without the base; nullopt where the answer is not Prometheus'.
    [[nodiscard]] std::optional<std::string> reached(const Answer& answer) const;
    [[nodiscard]] std::vector<std::string> targets(const Way& way) const;
    [[nodiscard]] bool exposed(const Way& way) const;
    [[nodiscard]] bool open_around(const Level& level) const;

    // access.cpp
    void authentication();
    void switched_off(const Way& way);
    void roles();
    void canonical();
    void coverage();
    void admin_location();
    void map_case(const Way& way);

    // wiring.cpp
    void upstreams();
    void auth_requests();
    void credentials();
    void logs();

    // transport.cpp
    void listeners();
    void protocols();
    void upstream_tls();

    const Configuration& configuration_;
    const SiteOptions& options_;
    std::vector<Way> ways_;
    std::array<Bin, static_cast<std::size_t>(Id::count_)> bins_;
};

/// Somebody who has proved who they are and is nobody in particular.
Request nobody_in_particular();
Request stranger();

}  // namespace promwarden::proxy
