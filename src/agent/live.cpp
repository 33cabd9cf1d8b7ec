// Live evidence while the loop goes on: one question at a time is with the worker, and its answer wakes us.

#include <algorithm>

#include "agent.hpp"

namespace promwarden {

namespace {

constexpr std::chrono::seconds longest_inquiry{30};

}  // namespace

/// Begins anew: what an inquiry under another policy learned is not asked for any more.
void Agent::ask_live() {
    end_live();
    const auto* subject = policy();
    if (subject == nullptr) return;
    auto targets = live_targets(*subject, {});
    if (!targets) return keep_live(std::unexpected(targets.error()));
    if (std::ranges::all_of(*targets, [](const probe::Target& target) { return !target.holder.empty(); }))
        return keep_live(probe::Survey(*targets, false).finish(*targets, std::chrono::system_clock::now()));
    auto begun = probe::Inquiry::begin(engine_.probe(), *std::move(targets), !subject->prometheus.probe.user.empty());
    if (!begun) return keep_live(std::unexpected(begun.error()));
    inquiry_ = *std::move(begun);
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, inquiry_->fd(), EPOLLIN, call_io<&Agent::on_live>, this);
    sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IDLE);  // never before a change of the table
    inquiry_source_.reset(source);
    once<&Agent::on_live_over>(inquiry_timer_, longest_inquiry, std::chrono::milliseconds(100));
}

void Agent::on_live() {
    const auto done = inquiry_->proceed();
    if (!done) {
        end_live();
        return keep_live(std::unexpected(done.error()));
    }
    if (*done) on_live_over();
}

/// Everything was asked, or the time is over: what is known by now counts, if the sockets are still whose they were.
void Agent::on_live_over() {
    const auto* subject = policy();
    const auto survey = inquiry_->survey();
    end_live();
    if (subject == nullptr) return;
    const auto targets = live_targets(*subject, {});
    if (!targets) return keep_live(std::unexpected(targets.error()));
    keep_live(survey.finish(*targets, std::chrono::system_clock::now()));
}

void Agent::end_live() {
    inquiry_source_.reset();
    inquiry_timer_.reset();
    inquiry_.reset();
}

void Agent::keep_live(Result<live::Facts> facts) {
    live_ = std::move(facts);
    report_.reset();
}

}  // namespace promwarden
