// Strict verification of a chain, at several moments. What passes here is what clients will accept.

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "native.hpp"

namespace promwarden::tls {

namespace {

constexpr int security_level = 2;
constexpr int deepest = 4;
constexpr auto tolerated_skew = std::chrono::minutes(5);

void free_store(X509_STORE* store) { ::X509_STORE_free(store); }
void free_context(X509_STORE_CTX* context) { ::X509_STORE_CTX_free(context); }
void free_stack(STACK_OF(X509)* stack) { sk_X509_free(stack); }  // not what is in it

using Store = Handle<X509_STORE, free_store>;
using Stack = Handle<STACK_OF(X509), free_stack>;

std::unexpected<Error> refused(std::string why) { return fail(Code::invalid, "verify certificate", "", std::move(why)); }

Result<Store> store_of(const Chain& chain, const Chain* anchors) {
    Store store(::X509_STORE_new());
    if (!store) return refused("out of memory");
    if (anchors == nullptr) {
        if (::X509_STORE_add_cert(store.get(), chain.native(chain.certificates().size() - 1)) != 1) return refused("out of memory");
        return store;
    }
    for (std::size_t i = 0; i < anchors->certificates().size(); ++i)
        if (::X509_STORE_add_cert(store.get(), anchors->native(i)) != 1) return refused("out of memory");
    return store;
}

Result<> verify_at(const Chain& chain, const Expectation& expectation, X509_STORE* store, STACK_OF(X509)* untrusted, Time moment) {
    const Handle<X509_STORE_CTX, free_context> context(::X509_STORE_CTX_new());
    if (!context || ::X509_STORE_CTX_init(context.get(), store, chain.native(0), untrusted) != 1) return refused("out of memory");
    auto* parameters = ::X509_STORE_CTX_get0_param(context.get());
    unsigned long flags = X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE;
    if (expectation.anchors == nullptr) flags |= X509_V_FLAG_PARTIAL_CHAIN;
    ::X509_VERIFY_PARAM_set_flags(parameters, flags);
    ::X509_VERIFY_PARAM_set_purpose(parameters, expectation.use == Use::server ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT);
    ::X509_VERIFY_PARAM_set_auth_level(parameters, security_level);
    ::X509_VERIFY_PARAM_set_depth(parameters, deepest);
    ::X509_VERIFY_PARAM_set_time(parameters, std::chrono::system_clock::to_time_t(moment));
    if (::X509_verify_cert(context.get()) == 1) return {};
    const int error = ::X509_STORE_CTX_get_error(context.get()), depth = ::X509_STORE_CTX_get_error_depth(context.get());
    ::ERR_clear_error();
    return refused(fmt::format("{} (of the {}, at {})", ::X509_verify_cert_error_string(error),
                               depth == 0 ? std::string("leaf") : fmt::format("certificate {} places above it", depth), format_time(moment)));
}

bool has_name(X509* leaf, const std::string& name) {
    if (const auto address = parse_address(name)) return ::X509_check_ip_asc(leaf, name.c_str(), 0) == 1;
    return ::X509_check_host(leaf, name.data(), name.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, nullptr) == 1;
}

}  // namespace

std::vector<Time> moments_of(const Certificate& leaf, Time now) {
    std::vector<Time> moments{now, leaf.not_after - std::chrono::seconds(1)};
    if (now + tolerated_skew < leaf.not_after) moments.push_back(now + tolerated_skew);
    return moments;
}

Result<> verify(const Chain& chain, const Expectation& expectation) {
    prepare();
    const auto store = TRY(store_of(chain, expectation.anchors));
    const Stack untrusted(sk_X509_new_null());
    if (!untrusted) return refused("out of memory");
    for (std::size_t i = 1; i < chain.certificates().size(); ++i)
        if (sk_X509_push(untrusted.get(), chain.native(i)) <= 0) return refused("out of memory");
    for (const auto moment : expectation.moments) TRY(verify_at(chain, expectation, store.get(), untrusted.get(), moment));
    for (const auto& name : expectation.names)
        if (!has_name(chain.native(0), name)) return refused(fmt::format("it is not for '{}'", name));
    const auto& leaf = chain.leaf();
    if (leaf.authority) return refused("it is an authority's, not a service's");
    ::ERR_clear_error();
    return {};
}

}  // namespace promwarden::tls
