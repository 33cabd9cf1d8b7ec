// What is wrong with a policy, collected while it is read.
#pragma once

#include "value.hpp"

namespace promwarden::policy {

class Notes {
public:
    explicit Notes(const Sources& sources) : sources_(sources) {}

    void add(Place at, std::string message, std::string hint = {}, std::optional<Place> also = {});
    [[nodiscard]] bool empty() const { return found_.empty(); }
    [[nodiscard]] Where where(Place at) const;
    /// In the order of the files, at most 20, each with the line it is about.
    [[nodiscard]] Diagnostics take();

private:
    struct Found {
        Place at;
        std::string message, hint;
        std::optional<Place> also;
    };
    [[nodiscard]] Diagnostic finish(const Found& found) const;

    const Sources& sources_;
    std::vector<Found> found_;
};

}  // namespace promwarden::policy
