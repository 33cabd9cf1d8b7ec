#include <algorithm>

#include <fmt/format.h>

#include "build.hpp"
#include "list.hpp"

namespace promwarden::policy {

namespace {

/// Takes in one list; false where it has errors.
bool add_list(const std::string& path, Place at, SourceGroup& group, const Build& build) {
    const auto& files = build.sources.files;
    const auto source = std::ranges::find_if(files, [&](const SourceFile& file) { return file.kind == SourceFile::Kind::list && file.path == path; });
    if (source == files.end()) {
        build.notes.add(at, fmt::format("the list {} was not read", path));
        return false;
    }
    auto& list = build.lists[path];
    if (!read_list(*source, static_cast<std::uint32_t>(source - files.begin()), list, build.notes)) return false;
    // A group of one list shares the list's classes, whatever their size.
    group.networks = group.networks.empty() ? list.networks : unite(group.networks, list.networks);
    group.lists.push_back(path);
    return true;
}

void add_source(const Value& item, const std::string& key, SourceGroup& group, std::vector<Cidr>& written, const Build& build) {
    if (item.kind != Value::Kind::text)
        return build.notes.add(item.at, fmt::format("'{}' must be an array of networks, or \"@\" and the path of a list", key), "for example: [\"10.0.0.0/8\"]");
    if (const auto path = list_path(item.text, build.sources.files[item.at.file].path)) {
        add_list(*path, item.at, group, build);
        return;
    }
    if (const auto cidr = parse_cidr(item.text)) written.push_back(*cidr);
    else build.notes.add(item.at, fmt::format("'{}' is no network: {}", item.text, cidr.error().detail));
}

SourceGroup build_group(const Entry& entry, const Build& build) {
    SourceGroup group{entry.key, build.notes.where(entry.at), {}, {}, {}};
    const auto key = fmt::format("firewall.sources.{}", key_text(entry.key));
    if (!fits(Type::name, entry.key)) build.notes.add(entry.at, fmt::format("'{}' is not a name: 1 to 32 letters, digits, '_' and '-'", key_text(entry.key)));
    std::vector<Cidr> written;
    const auto& value = entry.value;
    if (value.kind == Value::Kind::array) {
        for (const auto& item : value.items) add_source(item, key, group, written, build);
    } else if (value.kind == Value::Kind::text && !value.text.starts_with('@')) {
        build.notes.add(value.at, fmt::format("'{}' must be an array of networks, or \"@\" and the path of a list", key), fmt::format("write [{}]", quoted(value.text)));
    } else {
        add_source(value, key, group, written, build);
    }
    group.written = make_networks(written);
    if (group.networks.empty()) group.networks = group.written;
    else if (!group.written.empty()) group.networks = unite(group.networks, group.written);
    return group;
}

/// Two services on one port would leave it to their order who is admitted.
void check_overlap(const std::vector<Service>& services, const std::vector<Place>& places, Notes& notes) {
    for (std::size_t i = 0; i < services.size(); ++i)
        for (std::size_t j = 0; j < i; ++j) {
            if (services[i].protocol != services[j].protocol) continue;
            for (const auto& mine : services[i].ports)
                for (const auto& theirs : services[j].ports) {
                    if (mine.first > theirs.last || theirs.first > mine.last) continue;
                    return notes.add(places[i], fmt::format("port {} is guarded by the service '{}' already", std::max(mine.first, theirs.first), services[j].name), {}, places[j]);
                }
        }
}

Service build_service(const Reader& table, const std::vector<SourceGroup>& groups, const Build& build) {
    Service service;
    service.where = build.notes.where(table.at());
    service.name = table.text("name");
    service.ports = table.ports("ports");
    service.protocol = table.choice<Protocol>("protocol");
    service.deny = table.choice<Deny>("deny");
    if (const auto rate = parse_rate(table.text("log"))) service.log = rate;
    std::vector<std::string_view> names;
    for (const auto& group : groups) names.push_back(group.name);
    for (auto& item : table.items("allow")) {
        if (std::ranges::find(names, item.text) == names.end())
            build.notes.add(item.at, fmt::format("unknown source group '{}'", item.text), nearest_hint(item.text, names));
        service.allow.push_back(std::move(item.text));
    }
    if (!table.has("local_users")) return service;
    service.local_users.emplace();
    for (const auto& item : table.items("local_users"))
        if (auto user = find_user(item.text, item.at, build)) service.local_users->push_back(std::move(*user));
    return service;
}

}  // namespace

FirewallPolicy build_firewall(const Reader& table, const Build& build) {
    FirewallPolicy firewall;
    firewall.own_table = table.choice<int>("ownership") == 0;
    firewall.sibling_containers = table.choice<int>("sibling_containers") == 1;
    firewall.open_ports = table.port_numbers("open_ports");
    firewall.nflog_group = static_cast<std::uint16_t>(table.number("nflog_group"));
    for (const auto& entry : table.section("sources").entries()) firewall.sources.push_back(build_group(entry, build));
    Unique names("service", build.notes);
    std::vector<Place> places;
    for (const auto& block : table.blocks("service")) {
        auto service = build_service(block, firewall.sources, build);
        const auto* name = block.find("name");
        names.add(service.name, name == nullptr ? block.at() : name->at);
        places.push_back(block.at("ports"));
        firewall.services.push_back(std::move(service));
    }
    check_overlap(firewall.services, places, build.notes);
    return firewall;
}

}  // namespace promwarden::policy
