// The live parts of controls: what endpoints answered, against the policy. Pure. Where nothing was asked, or nobody let the probe in, a part does not apply, so that
// what is known from elsewhere decides; where somebody else holds the socket, it fails and names the holder.
#pragma once

#include "promwarden/controls.hpp"

namespace promwarden {

Decision live_listen_address(const Policy& policy, const Facts& facts);
Decision live_authentication(const Policy& policy, const Facts& facts);
Decision live_tls_server(const Policy& policy, const Facts& facts);
Decision live_tls_protocol(const Policy& policy, const Facts& facts);
Decision live_client_auth(const Policy& policy, const Facts& facts);
Decision live_admin_api(const Policy& policy, const Facts& facts);
Decision live_lifecycle(const Policy& policy, const Facts& facts);
Decision live_receivers(const Policy& policy, const Facts& facts);
Decision live_cors(const Policy& policy, const Facts& facts);
Decision live_profiling(const Policy& policy, const Facts& facts);
Decision live_drift(const Policy& policy, const Facts& facts);

}  // namespace promwarden
