// When a certificate is due, and what may take its place. Pure: "now" is given.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "promwarden/tls.hpp"

namespace promwarden::tls {

namespace {

using namespace std::chrono_literals;
using Span = std::chrono::system_clock::duration;

constexpr auto short_life = 240h;  // up to this, half of it is renewed instead of a third
constexpr Time never = Time::max();
// A clock that shows less than the day on which this was written is wrong.
constexpr Time written = std::chrono::sys_days{std::chrono::year(2026) / 11 / 1};

/// The same for the same certificate, on every start: in [0, 1).
double fraction(const std::string& seed) {
    const auto digest = sha256(seed);
    std::uint64_t bits = 0;
    std::from_chars(digest.data(), digest.data() + 13, bits, 16);
    return static_cast<double>(bits) / static_cast<double>(1ull << 52);
}

Span scaled(Span span, double factor) { return Span(static_cast<Span::rep>(static_cast<double>(span.count()) * factor)); }

Time whole(Time time) { return std::chrono::floor<std::chrono::seconds>(time); }

}  // namespace

Time next_in_windows(std::span<const MaintenanceWindow> windows, Time from) {
    if (windows.empty()) return from;
    auto best = never;
    const auto today = std::chrono::floor<std::chrono::days>(from);
    for (const auto& window : windows) {
        // From yesterday on: a window that passes midnight may still be open.
        for (int ahead = -1; ahead <= 7; ++ahead) {
            const std::chrono::sys_days day = today + std::chrono::days(ahead);
            if ((window.days >> (std::chrono::weekday(day).iso_encoding() - 1) & 1) == 0) continue;
            const Time start = day + window.from;
            const Time end = day + window.until + (window.until <= window.from ? 24h : 0h);
            if (from < end) best = std::min(best, std::max(from, start));
        }
    }
    return best;
}

std::optional<RenewalRecord::Window> choose_window(Time from, Time until, const std::string& seed) {
    if (until <= from) return std::nullopt;
    return RenewalRecord::Window{from, until, whole(from + scaled(until - from, fraction(seed)))};
}

Renewal next_renewal(const CertificatePolicy& policy, std::span<const MaintenanceWindow> windows, const std::optional<Certificate>& leaf, const RenewalRecord& record,
                     const std::string& machine, Time now, bool synchronised) {
    Renewal renewal{Action::none, never, never, false, {}};
    if (policy.issuer == "watch") {
        renewal.reason = "another tool renews it";
        return renewal;
    }
    if (!leaf) {
        renewal = {Action::rekey, now, std::max(now, record.next_try), true, "there is none yet"};
    } else {
        const auto life = leaf->not_after - leaf->not_before;
        const auto left = leaf->not_after - now;
        const auto jitter = scaled(life, 0.05 * fraction(fmt::format("{}\n{}\n{}", machine, policy.name, leaf->serial)));
        renewal.due = whole(leaf->not_after - (life <= short_life ? life / 2 : life / 3) - jitter);
        if (record.window && left > life / 20) renewal.due = record.window->selected;
        const Time emergency = leaf->not_after - life / 50;
        const bool wrong_names = std::ranges::any_of(policy.names, [&](const std::string& name) { return !is_for(*leaf, name); });
        if (wrong_names) renewal.due = std::min(renewal.due, now);
        renewal.emergency = now >= emergency;
        // A window that opens too late is no reason to let it expire.
        const auto in_window = std::min(next_in_windows(windows, std::max(renewal.due, now)), std::max(emergency, now));
        renewal.when = std::max(renewal.emergency ? now : in_window, record.next_try);
        renewal.action = policy.rekey > 0s && record.key_made + policy.rekey <= std::max(now, renewal.due) ? Action::rekey : Action::renew;
        renewal.reason = wrong_names ? "it is not for every name of the policy" : renewal.emergency ? "it is about to expire" : fmt::format("due {}", format_time(renewal.due));
    }
    // Where there is none, a wrong clock can break nothing; a clock from before this was written cannot make one that anybody accepts.
    if (((!synchronised && leaf) || now < written) && renewal.when <= now) {
        renewal.when = never;
        renewal.reason += ", but the clock cannot be believed: it is not synchronised, and nothing is replaced by it";
        renewal.action = Action::none;
    }
    return renewal;
}

RenewalRecord after_failure(RenewalRecord record, const std::string& error, const std::optional<Certificate>& leaf, Time now) {
    constexpr std::array<std::chrono::minutes, 6> waits{1min, 2min, 5min, 10min, 30min, 60min};
    ++record.attempts;
    record.last_error = error.substr(0, 1000);
    record.last_attempt = now;
    Span wait = record.attempts <= waits.size() ? Span(waits[record.attempts - 1]) : Span(60min) * (1 << std::min(record.attempts - 6, 3u));
    Span most = 6h;
    // What is about to expire is tried more often; never more often than each minute.
    if (leaf && leaf->not_after > now) most = std::min(most, (leaf->not_after - now) / 10);
    wait = std::max<Span>(std::min(wait, most), 1min);
    record.next_try = whole(now + wait);
    return record;
}

std::optional<std::string> worse(const std::optional<Certificate>& now_there, const Certificate& next, const CertificatePolicy& policy, Time now, bool forced) {
    if (next.not_after <= now) return "the new one has expired";
    if (next.not_before > now) return "the new one is not valid yet";
    for (const auto& name : policy.names)
        if (!is_for(next, name)) return fmt::format("the new one is not for '{}'", name);
    if (policy.server ? !next.server : !next.client) return fmt::format("the new one is not for a {}", policy.server ? "server" : "client");
    if (next.authority) return "the new one is an authority's";
    const bool usable = now_there && now_there->not_after > now && now_there->not_before <= now;
    if (usable && !forced && next.not_after < now_there->not_after) return "the new one expires before the one that is there";
    return std::nullopt;
}

// ---- as text --------------------------------------------------------------------------------------------------------

Json to_json(const RenewalRecord& record) {
    Json json{{"attempts", record.attempts}, {"last_error", record.last_error}};
    const auto put = [](Json& into, const char* name, Time time) {
        if (time != Time{}) into[name] = format_time(time);
    };
    put(json, "last_attempt", record.last_attempt);
    put(json, "next_try", record.next_try);
    put(json, "key_made", record.key_made);
    put(json, "rotated", record.rotated);
    if (!record.seen.empty()) json["seen"] = record.seen;
    if (record.window) {
        json["window"] = Json::object();
        put(json["window"], "from", record.window->from);
        put(json["window"], "until", record.window->until);
        put(json["window"], "selected", record.window->selected);
    }
    return json;
}

Result<RenewalRecord> read_record(std::string_view text) {
    const auto json = TRY(parse_json(text));
    const auto time = [](const Json& object, const char* name) -> Result<Time> {
        const auto found = object.find(name);
        if (found == object.end()) return Time{};
        if (!found->is_string()) return fail(Code::invalid, "read record", name, "no time");
        return parse_time(found->get<std::string>());
    };
    if (!json.is_object() || !json.contains("attempts") || !json["attempts"].is_number_unsigned() || !json.contains("last_error") || !json["last_error"].is_string())
        return fail(Code::invalid, "read record", "", "it is damaged");
    RenewalRecord record;
    record.attempts = json["attempts"].get<unsigned>();
    record.last_error = json["last_error"].get<std::string>();
    record.last_attempt = TRY(time(json, "last_attempt"));
    record.next_try = TRY(time(json, "next_try"));
    record.key_made = TRY(time(json, "key_made"));
    record.rotated = TRY(time(json, "rotated"));
    if (const auto seen = json.find("seen"); seen != json.end() && seen->is_string()) record.seen = seen->get<std::string>();
    if (const auto window = json.find("window"); window != json.end() && window->is_object())
        record.window = RenewalRecord::Window{TRY(time(*window, "from")), TRY(time(*window, "until")), TRY(time(*window, "selected"))};
    return record;
}

}  // namespace promwarden::tls
