/// values — the values in Prometheus' files that only their reader should see. Part of the room prometheus. Pure.
#pragma once

#include "promwarden/prometheus.hpp"

namespace promwarden::prometheus {

struct SecretValue {
    std::string path;  // "scrape_configs[0].basic_auth.password"
    const Key* key = nullptr;
    const yaml::Node* node = nullptr;  // a scalar
};

/// Typed secrets, hashes, and what may hold one: headers, parameters, URLs with a user or a query. In the order of the document.
std::vector<SecretValue> secret_values(const Document& document);

/// The key beside it that takes a file instead, in that version (nullopt: any from 2.42 on); null where there is none.
const Key* file_twin(const Key& key, std::optional<Version> version);

}  // namespace promwarden::prometheus
