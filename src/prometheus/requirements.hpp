/// Internal to the room: what is demanded of the value of a key.
#pragma once

#include "promwarden/prometheus.hpp"

namespace promwarden::prometheus {

/// null: nothing is known, or nothing is demanded.
const Demand* find_demand(const Key& key);

}  // namespace promwarden::prometheus
