// What differs between two texts, as a deed that remembers nothing else.
#pragma once

#include "promwarden/edit.hpp"
#include "promwarden/plan.hpp"

namespace promwarden {

/// A secret whose characters stand in a text, and the file that is to hold them.
struct MovedSecret {
    yaml::Range range;
    std::string file;
};

EditFile edit_of(std::string_view before, std::string_view after, std::span<const MovedSecret> moved);

}  // namespace promwarden
