// Containers as their engines keep them on disk, and what leads to them: Docker's and Podman's files, docker-proxy's arguments, translating rules.

#include <algorithm>

#include <dirent.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>

#include "arguments.hpp"
#include "units.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_containers = 1000, most_json = 4 * 1024 * 1024, most_listed = 4096, most_pidfile = 64;
constexpr int most_depth = 32;

// ---- JSON that may not have what it should --------------------------------------------------------------------------

const Json& at(const Json& value, const char* key) {
    static const Json nothing;
    if (!value.is_object()) return nothing;
    const auto found = value.find(key);
    return found == value.end() ? nothing : *found;
}

std::string text(const Json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }
bool truth(const Json& value) { return value.is_boolean() && value.get<bool>(); }

std::vector<std::string> texts(const Json& value) {
    std::vector<std::string> all;
    if (value.is_array())
        for (const auto& one : value)
            if (one.is_string() && all.size() < most_listed) all.push_back(one.get<std::string>());
    return all;
}

std::uint16_t port_of(std::string_view digits) {
    const auto number = number_in<std::uint16_t>(digits);
    return number.value_or(0);
}

/// "" is every address of both families.
std::vector<Address> addresses_of(const std::string& host) {
    if (host.empty()) return {Address{Family::ip4, {}}, Address{Family::ip6, {}}};
    if (const auto address = parse_address(host)) return {*address};
    return {};
}

/// "100000.100000": uid and gid.
bool is_remapped(std::string_view name) {
    const auto dot = name.find('.');
    return dot != std::string_view::npos && number_in<uid_t>(name.substr(0, dot)) && number_in<gid_t>(name.substr(dot + 1)) && name.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool is_any(const Address& address) { return address == Address{address.family, {}}; }

class Reader {
public:
    Reader(ContainerFacts& facts, std::string root) : facts_(facts), root_(std::move(root)) {}

    void docker() {
        std::string data = "/var/lib/docker";
        if (const auto settings = json("/etc/docker/daemon.json", false)) {
            const auto other = text(at(*settings, "data-root"));
            if (other.starts_with('/')) data = other;
        }
        for (const auto& id : names(data + "/containers")) docker_container(data + "/containers/" + id);
        // With user namespaces the engine keeps everything once more, below the ids that root is inside.
        for (const auto& remapped : names(data))
            if (is_remapped(remapped))
                for (const auto& id : names(data + "/" + remapped + "/containers")) docker_container(data + "/" + remapped + "/containers/" + id);
    }

    void podman() {
        const std::string storage = "/var/lib/containers/storage/overlay-containers";
        const auto list = json(storage + "/containers.json", false);
        if (!list || !list->is_array()) return;
        for (const auto& one : *list) {
            if (facts_.containers.size() >= most_containers) return;
            Container container;
            container.engine = "podman";
            container.id = text(at(one, "id"));
            const auto given = texts(at(one, "names"));
            container.name = given.empty() ? container.id.substr(0, 12) : given.front();
            container.image = text(at(one, "image"));
            container.source = fmt::format("{}/{}/userdata/config.json", storage, container.id);
            if (container.id.empty() || container.id.contains('/')) continue;
            if (const auto metadata = parse_json(text(at(one, "metadata")), most_depth)) container.image = text(at(*metadata, "image-name"));
            if (const auto spec = json(container.source, false)) podman_spec(container, *spec);
            // Its own database of what runs is not read; the file with the id of the first process is there as long as the container runs.
            const auto first = read_below(root_, fmt::format("/run/containers/storage/overlay-containers/{}/userdata/pidfile", container.id), most_pidfile);
            container.pid = first ? number_in<pid_t>(*first).value_or(0) : 0;
            container.running = container.pid > 0;
            facts_.containers.push_back(std::move(container));
        }
    }

private:
    std::optional<Json> json(const std::string& path, bool expected) {
        const auto file = read_below(root_, path, most_json);
        if (!file) {
            if (expected || file.error().code != Code::missing) facts_.unread.push_back(file.error().text());
            return std::nullopt;
        }
        auto value = parse_json(*file, most_depth, most_listed);
        if (value) return *std::move(value);
        facts_.unread.push_back(fmt::format("{}: {}", path, value.error().text()));
        return std::nullopt;
    }

    std::vector<std::string> names(const std::string& path) {
        std::vector<std::string> all;
        const auto directory = list_below(root_, path);
        if (!directory) {
            if (errno != ENOENT) facts_.unread.push_back(fail_errno("open", path).error().text());
            return all;
        }
        while (const auto* entry = ::readdir(directory.get()))
            if (entry->d_name[0] != '.' && all.size() < most_containers) all.emplace_back(entry->d_name);
        std::ranges::sort(all);
        return all;
    }

    void docker_container(const std::string& directory) {
        const auto config = json(directory + "/config.v2.json", true), host = json(directory + "/hostconfig.json", true);
        if (!config || !host) return;
        Container container;
        container.engine = "docker";
        container.id = text(at(*config, "ID"));
        container.name = text(at(*config, "Name"));
        if (container.name.starts_with('/')) container.name.erase(0, 1);
        container.image = text(at(at(*config, "Config"), "Image"));
        container.running = truth(at(at(*config, "State"), "Running"));
        if (const auto& pid = at(at(*config, "State"), "Pid"); pid.is_number_unsigned() && container.running) container.pid = pid.get<pid_t>();
        container.host_network = text(at(*host, "NetworkMode")) == "host";
        container.privileged = truth(at(*host, "Privileged"));
        container.arguments = texts(at(*config, "Args"));
        container.environment = texts(at(at(*config, "Config"), "Env"));
        container.source = directory + "/hostconfig.json";
        for (const auto& bind : texts(at(*host, "Binds"))) container.mounts.push_back(bind.substr(0, bind.find(':')));
        for (const auto& mount : at(*host, "Mounts")) container.mounts.push_back(text(at(mount, "Source")));
        if (container.running && !container.host_network) docker_ports(container, *config, *host);
        facts_.containers.push_back(std::move(container));
    }

    /// What was bound when it started (random ports included), and what was asked for.
    void docker_ports(const Container& container, const Json& config, const Json& host) {
        const auto& bound = at(at(config, "NetworkSettings"), "Ports");
        const auto& asked = at(host, "PortBindings");
        bool any = false;
        for (const auto* ports : {&bound, &asked}) {
            if (any || !ports->is_object()) continue;
            for (const auto& [port, bindings] : ports->items()) {
                if (!bindings.is_array()) continue;
                for (const auto& binding : bindings) any = true, publish(container, port, text(at(binding, "HostIp")), text(at(binding, "HostPort")));
            }
        }
    }

    /// `port` as "9090/tcp".
    void publish(const Container& container, const std::string& port, const std::string& host, const std::string& host_port) {
        const auto protocol = port.ends_with("/udp") ? Protocol::udp : Protocol::tcp;
        if (port.ends_with("/sctp")) return;
        for (const auto& address : addresses_of(host))
            facts_.publications.push_back({Publication::Seen::configuration, {address, port_of(host_port)}, port_of(port), protocol, {}, container.name, container.source});
    }

    static void podman_spec(Container& container, const Json& spec) {
        container.arguments = texts(at(at(spec, "process"), "args"));
        container.environment = texts(at(at(spec, "process"), "env"));
        for (const auto& mount : at(spec, "mounts"))
            if (text(at(mount, "type")) == "bind") container.mounts.push_back(text(at(mount, "source")));
        const auto& namespaces = at(at(spec, "linux"), "namespaces");
        container.host_network = namespaces.is_array() && std::ranges::none_of(namespaces, [](const Json& one) { return text(at(one, "type")) == "network"; });
    }

    ContainerFacts& facts_;
    std::string root_;
};

// ---- proxies --------------------------------------------------------------------------------------------------------

/// "-host-ip 0.0.0.0 -host-port 9090 -container-ip 172.17.0.2 -container-port 9090", of a process that root runs and that is docker-proxy.
void read_proxies(ContainerFacts& facts, const std::string& proc) {
    for (const auto pid : all_processes(proc)) {
        const auto directory = open_process(pid, proc);
        if (!directory || !read_text(*directory, "comm").value_or("").starts_with("docker-proxy")) continue;
        const auto process = read_process(pid, proc);
        const auto words = arguments_of(*directory, pid);
        if (!process || process->uid != uid_t{0} || !process->exe.contains("docker-proxy") || !words) continue;
        const auto value = [&](std::string_view name) {
            const auto found = std::ranges::find_if(*words, [&](const std::string& word) { return word == name || word == fmt::format("-{}", name); });
            return found == words->end() || found + 1 == words->end() ? std::string() : *(found + 1);
        };
        Publication publication{Publication::Seen::proxy, {}, port_of(value("-container-port")), value("-proto") == "udp" ? Protocol::udp : Protocol::tcp, {}, {}, fmt::format("docker-proxy (pid {})", pid)};
        publication.host.port = port_of(value("-host-port"));
        if (const auto address = parse_address(value("-container-ip"))) publication.container_address = *address;
        for (const auto& address : addresses_of(value("-host-ip"))) {
            publication.host.address = address;
            facts.publications.push_back(publication);
        }
    }
}

// ---- rules ----------------------------------------------------------------------------------------------------------

/// What the comparisons of a rule say about the packets it translates.
struct Match {
    std::optional<Address> destination;
    std::uint16_t port = 0;
    Protocol protocol = Protocol::tcp;
};

Match match_of(const Rule& rule) {
    enum class Loaded : std::uint8_t { other, destination, port, protocol } loaded = Loaded::other;
    Match match;
    for (const auto& expression : rule.expressions) {
        using Base = expr::Payload::Base;
        if (const auto* payload = std::get_if<expr::Payload>(&expression)) {
            const bool network = payload->base == Base::network;
            if (network && ((payload->offset == 16 && payload->length == 4) || (payload->offset == 24 && payload->length == 16))) loaded = Loaded::destination;
            else if (!network && payload->offset == 2 && payload->length == 2) loaded = Loaded::port;
            else if (network && payload->length == 1 && (payload->offset == 9 || payload->offset == 6)) loaded = Loaded::protocol;
            else loaded = Loaded::other;
        } else if (const auto* meta = std::get_if<expr::Meta>(&expression)) {
            loaded = meta->key == expr::Meta::Key::l4proto ? Loaded::protocol : Loaded::other;
        } else if (const auto* compare = std::get_if<expr::Compare>(&expression)) {
            const auto& value = compare->value;
            if (compare->op != expr::Compare::Op::eq) continue;
            if (loaded == Loaded::port && value.size() == 2) match.port = static_cast<std::uint16_t>(value[0] << 8 | value[1]);
            if (loaded == Loaded::protocol && !value.empty()) match.protocol = value[0] == IPPROTO_UDP ? Protocol::udp : Protocol::tcp;
            if (loaded == Loaded::destination && (value.size() == 4 || value.size() == 16)) {
                Address address{value.size() == 4 ? Family::ip4 : Family::ip6, {}};
                std::ranges::copy(value, address.bytes.begin());
                match.destination = address;
            }
        }
    }
    return match;
}

/// "nat dnat to 172.17.0.2:9090", "xt DNAT to [fd17::2]:9090".
std::optional<Endpoint> target_of(const Rule& rule) {
    for (const auto& expression : rule.expressions) {
        const auto* foreign = std::get_if<expr::Foreign>(&expression);
        if (foreign == nullptr || !(foreign->name.starts_with("nat dnat to ") || foreign->name.starts_with("xt DNAT to "))) continue;
        const auto words = std::string_view(foreign->name).substr(foreign->name.find(" to ") + 4);
        if (const auto endpoint = parse_endpoint(words)) return *endpoint;
        if (const auto address = parse_address(words)) return Endpoint{*address, 0};
    }
    return std::nullopt;
}

void read_rules(ContainerFacts& facts, const firewall::ForeignRules& foreign) {
    for (const auto& chain : foreign.chains)
        for (const auto& rule : chain.rules) {
            const auto target = target_of(rule);
            if (!target || facts.publications.size() >= most_listed) continue;
            const auto match = match_of(rule);
            if (match.port == 0) continue;  // every port of something: not how a port is published
            const auto any = Address{target->address.family, {}};
            facts.publications.push_back({Publication::Seen::rule, {match.destination.value_or(any), match.port}, target->port == 0 ? match.port : target->port, match.protocol, target->address, {},
                                          fmt::format("table {} {} chain {}", chain.family, chain.table, chain.name)});
        }
}

/// Proxies and rules name an address; the container that publishes that port is the one whose configuration says so.
void name_them(ContainerFacts& facts) {
    for (auto& publication : facts.publications) {
        if (!publication.container.empty()) continue;
        const auto same = std::ranges::find_if(facts.publications, [&](const Publication& other) {
            return other.seen == Publication::Seen::configuration && other.protocol == publication.protocol && other.host.port == publication.host.port &&
                   (other.host.address == publication.host.address || is_any(other.host.address) || is_any(publication.host.address));
        });
        if (same != facts.publications.end()) publication.container = same->container;
    }
}

}  // namespace

ContainerFacts read_containers(const firewall::ForeignRules& foreign, const std::string& root, const std::string& proc) {
    ContainerFacts facts;
    Reader reader(facts, root);
    reader.docker();
    reader.podman();
    if (root.empty()) read_proxies(facts, proc);
    read_rules(facts, foreign);
    name_them(facts);
    return facts;
}

}  // namespace promwarden::host
