//! One reason per refusal: the same word in the kernel's counters, the audit log, metrics, the CLI and the docs.

/// Where in the path a refusal happens, in the order in which a packet and then a request meets the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// The XDP program, before the kernel's network stack.
    Filter,
    /// The TLS handshake, up to the client's certificate.
    Handshake,
    /// The client's certificate: chain, issuer, validity, revocation, usage, name.
    Certificate,
    /// The HTTP request's form: method, path, headers, token, body.
    Request,
    /// Permission: ASID, interaction, ownership.
    Authorisation,
    /// The record locator behind the gateway.
    Upstream,
    /// The agent itself.
    Agent,
    /// An operator's order, or what keeps it from being one.
    Operator,
}

impl Layer {
    /// The layer's name as printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
            Self::Request => "request",
            Self::Authorisation => "authorisation",
            Self::Upstream => "upstream",
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

/// Whose doing a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one who asks: its packets, its certificate, its request.
    Client,
    /// The service behind the gateway.
    Upstream,
    /// The gateway: its limits, its files, its operator.
    Gateway,
}

impl Side {
    /// Every side.
    pub const ALL: [Self; 3] = [Self::Client, Self::Upstream, Self::Gateway];

    /// The side's name as printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident = $number:literal, $layer:ident, $code:literal, $meaning:literal, $mend:literal;)+) => {
        /// Why a packet, a handshake or a request was refused. The numbers are fixed: they index the kernel's counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $meaning] $variant = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of the layers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason's code, as written in every log, counter and table.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The reason with this code, if there is one.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The layer that refuses for this reason.
            #[must_use]
            pub const fn layer(self) -> Layer {
                match self { $(Self::$variant => Layer::$layer,)+ }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// What the refused party or the operator can do about it.
            #[must_use]
            pub const fn mend(self) -> &'static str {
                match self { $(Self::$variant => $mend,)+ }
            }

            /// The reason with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    PacketTruncated = 1, Filter, "packet_truncated",
        "The packet ends inside one of its headers.",
        "Look for a faulty sender or a capture of crafted packets: no sound stack sends these.";
    PacketBadHeader = 2, Filter, "packet_bad_header",
        "An IP or TCP header contradicts itself or the packet's length.",
        "Look for a faulty sender or a capture of crafted packets: no sound stack sends these.";
    PacketTooManyHeaders = 3, Filter, "packet_too_many_headers",
        "The packet has more than two VLAN tags or more than eight IPv6 extension headers.",
        "Take the extra tags or headers off on the way to this host.";
    FragmentWithoutPorts = 4, Filter, "fragment_without_ports",
        "The first fragment of a packet does not hold its whole transport header.",
        "Raise the path's MTU: no sound stack makes fragments that small.";
    FragmentNotAllowlisted = 5, Filter, "fragment_not_allowlisted",
        "A later fragment, whose ports are unknown, comes from a source that is on no allowlist.",
        "Add the source with `spinegate sources add`, if it should have access.";
    VerdictDeny = 6, Filter, "verdict_deny",
        "The source has a deny verdict that has not expired.",
        "See `spinegate verdicts list` for its reason; `spinegate verdicts remove` lifts it.";
    SourceNotAllowlisted = 7, Filter, "source_not_allowlisted",
        "The source is not on the service's allowlist.",
        "Add the source with `spinegate sources add`, if it should have access.";
    EthertypeUnknown = 8, Filter, "ethertype_unknown",
        "The frame is neither IPv4, IPv6 nor ARP, and the scope is `host`.",
        "Use scope `services` if the host needs other protocols.";
    FilterUnconfigured = 9, Filter, "filter_unconfigured",
        "The filter has no policy, so it lets nothing through.",
        "Start the agent: it writes the policy before it attaches the filter.";
    HandshakeBudget = 10, Filter, "handshake_budget",
        "The source asks for more connections than its handshake budget allows.",
        "Wait: what is over the budget is only delayed. `filter.handshake` sets the budgets; `spinegate verdicts add --trust` raises a source's.";
    ControlRate = 11, Filter, "control_rate",
        "More control traffic (ARP, neighbour discovery, MLD, DHCP, ICMP errors) comes in than the filter lets through.",
        "Look for a flood on the link, or raise `filter.control_per_second`.";

    ConnectionLimit = 20, Handshake, "connection_limit",
        "As many connections are open as the configuration allows.",
        "Raise `gateway.max_connections`, or find who holds them with `spinegate status`.";
    TlsVersion = 21, Handshake, "tls_version",
        "The client does not offer TLS 1.2, the only version allowed (R6).",
        "Let the client offer TLS 1.2.";
    NoCommonCipher = 22, Handshake, "no_common_cipher",
        "The client offers no allowed cipher suite (R7).",
        "Let the client offer DHE-RSA-AES256-SHA256.";
    HandshakeMalformed = 23, Handshake, "handshake_malformed",
        "What the client sent is not a TLS handshake, or breaks off in one.",
        "Check that the client speaks TLS to this port, and nothing between rewrites it.";
    HandshakeTimeout = 24, Handshake, "handshake_timeout",
        "The handshake did not finish in time.",
        "Check the path to the client; `tls.handshake_timeout` sets the limit.";
    PeerClosed = 25, Handshake, "peer_closed",
        "The client closed the connection before the handshake ended.",
        "Ask the client's operator: the reason is in the client's log.";
    PeerAlert = 26, Handshake, "peer_alert",
        "The client refused this gateway with a TLS alert.",
        "Check that the client trusts the CA of this gateway's certificate.";
    CertificateMissing = 27, Handshake, "certificate_missing",
        "The client sent no certificate.",
        "Configure the client with its certificate and key.";
    UnauthenticatedLimit = 28, Handshake, "unauthenticated_limit",
        "So many connections are still in their handshake that new ones are turned away, the more often the more there are.",
        "Try again: it lasts as long as the flood. `tls.unauthenticated` sets the limits; `spinegate top` shows who asks for so much.";
    SourceUnauthenticatedLimit = 29, Handshake, "source_unauthenticated_limit",
        "As many connections of this source are still in their handshake as one source may have.",
        "Let the client open fewer connections at once; `tls.unauthenticated.per_source` and `per_proxy` set the limits.";
    HandshakeQueueFull = 30, Handshake, "handshake_queue_full",
        "More handshakes wait for their arithmetic than the queue holds, and this source had the most of them.",
        "Try again; `tls.handshake_queue` sets the length, and more cores shorten the wait.";
    HandshakeAbandoned = 31, Handshake, "handshake_abandoned",
        "The client went away after the gateway had done its part of the key exchange.",
        "Ask the client's operator: a client that does so again and again makes others wait (CVE-2002-20001).";
    ExtendedMasterSecretMissing = 32, Handshake, "ems_missing",
        "The client does not offer the extended master secret (RFC 7627), and `tls.require_ems` is set.",
        "Let the client offer it (OpenSSL 1.1.0 or newer does), or take `tls.require_ems` back.";
    EncryptThenMacMissing = 33, Handshake, "etm_missing",
        "The client does not offer encrypt-then-MAC (RFC 7366), and `tls.require_etm` is set.",
        "Let the client offer it (OpenSSL 1.1.0 or newer does), or take `tls.require_etm` back.";
    RecordInvalid = 34, Handshake, "record_invalid",
        "After the handshake a record came that was altered on the way, or that the protocol forbids.",
        "Look for what rewrites traffic between client and gateway; one client alone has a faulty TLS library.";
    NoCommonProtocol = 35, Handshake, "no_common_protocol",
        "The client offers application protocols (ALPN, RFC 7301), but HTTP/1.1 is not among them.",
        "Let the client offer http/1.1, or no ALPN at all.";
    KeyUnproven = 36, Handshake, "key_unproven",
        "The client did not prove that it holds its certificate's private key: the signature of its CertificateVerify is wrong.",
        "Give the client the key that belongs to its certificate; if it has it, somebody else uses the certificate.";

    ChainUnknownCa = 40, Certificate, "chain_unknown_ca",
        "The client's certificate does not lead to the trusted root (R9).",
        "Use a certificate of the Spine chain, and send the SubCA certificate with it.";
    ChainInvalid = 41, Certificate, "chain_invalid",
        "The client's certificate chain breaks a rule of RFC 5280, such as a signature or a CA flag (R9).",
        "Ask the issuer for a sound certificate; `spinegate cert inspect` says what breaks the chain.";
    IssuerNotPinned = 42, Certificate, "issuer_not_pinned",
        "The client's certificate was not issued by an issuing CA that this gateway accepts (R8).",
        "Use a certificate issued by the DIR team's SubCA.";
    CertificateNotYetValid = 43, Certificate, "certificate_not_yet_valid",
        "The validity of the client's certificate, or of its issuer's, has not begun (R10).",
        "Check the clocks; wait for the date, or use the current certificate.";
    CertificateExpired = 44, Certificate, "certificate_expired",
        "The client's certificate, or its issuer's, has expired (R10).",
        "Renew the certificate.";
    CertificateRevoked = 45, Certificate, "certificate_revoked",
        "The client's certificate, or its issuer's, is on its issuer's CRL (R11).",
        "Get a new certificate from the DIR team.";
    CrlMissing = 46, Certificate, "crl_missing",
        "No CRL of the certificate's issuer is loaded, so revocation is unknown (R11).",
        "The certificate is not at fault: the gateway's operator puts the issuer's CRL where `tls.client.crls` points, and reloads.";
    CrlStale = 47, Certificate, "crl_stale",
        "The CRL of the certificate's issuer is past its next update (R11).",
        "The certificate is not at fault: the gateway's operator fetches the issuer's current CRL, and reloads.";
    WrongUsage = 48, Certificate, "wrong_usage",
        "The client's certificate is not one for client authentication, or is a CA's.",
        "Get a certificate with extended key usage clientAuth and key usage digitalSignature; a CA's or a server's is none.";
    WeakKeyOrDigest = 49, Certificate, "weak_key_or_digest",
        "A key or signature of the chain is weaker than security level 2 allows.",
        "Use RSA of 2048 bits or more, signed with SHA-256 or better.";
    FqdnMismatch = 50, Certificate, "fqdn_mismatch",
        "The name in the client's certificate is not one of the FQDNs that this gateway accepts (R12).",
        "Use the certificate of the FQDN that the gateway accepts, or have its operator add the name to `tls.client.fqdns`; `spinegate cert inspect` shows both.";
    OcspUnavailable = 51, Certificate, "ocsp_unavailable",
        "No OCSP responder has confirmed that the client's certificate and its issuer's are good, and `tls.client.ocsp.mode` is `require`.",
        "Look at the agent's log for what the responders said; `prefer` lets the CRLs decide without them.";

    RequestMalformed = 60, Request, "request_malformed",
        "The request is not well-formed HTTP/1.1.",
        "Send a request that RFC 9112 allows.";
    PathUnknown = 61, Request, "path_unknown",
        "The path is none that this gateway serves.",
        "Use the DocumentReference endpoint of the NRL API.";
    MethodUnknown = 62, Request, "method_unknown",
        "The method is none that the NRL API has for this path.",
        "Use GET, POST, PATCH or DELETE as the NRL API describes.";
    ParameterInvalid = 63, Request, "parameter_invalid",
        "A query parameter is unknown, missing, repeated or malformed for this interaction.",
        "Compare the query with the NRL API's page of the interaction.";
    FromAsidMissing = 64, Request, "from_asid_missing",
        "The header with the requester's ASID (fromASID, or Ssp-From to a provider) is missing or sent more than once.",
        "Send the system's own ASID, once.";
    FromAsidInvalid = 65, Request, "from_asid_invalid",
        "The header with the requester's ASID (fromASID, or Ssp-From to a provider) is not an ASID of twelve digits.",
        "Send the system's own ASID, twelve digits.";
    ToAsidMissing = 66, Request, "to_asid_missing",
        "The header with the receiver's ASID (toASID, or Ssp-To to a provider) is missing or sent more than once.",
        "Send the ASID of this service, once.";
    ToAsidInvalid = 67, Request, "to_asid_invalid",
        "The header with the receiver's ASID (toASID, or Ssp-To to a provider) is not the ASID of this service.",
        "Send the ASID of this service.";
    InteractionMismatch = 68, Request, "interaction_mismatch",
        "The InteractionID header, or Ssp-InteractionID to a provider, names another interaction than method and path do.",
        "Send the interaction's own ID, or to a record locator none.";
    InteractionMissing = 125, Request, "interaction_missing",
        "The Ssp-InteractionID header is missing or sent more than once, and a provider is asked for records through it alone.",
        "Send the ID of the retrieval, once.";
    TraceIdMissing = 126, Request, "trace_id_missing",
        "The Ssp-TraceID header is missing or sent more than once.",
        "Let the consumer make a UUID for each request, and send it once.";
    TraceIdInvalid = 127, Request, "trace_id_invalid",
        "The Ssp-TraceID header is not a UUID.",
        "Send the UUID in its form of 36 characters with hyphens.";
    JwtMissing = 69, Request, "jwt_missing",
        "The Authorization header is missing, sent more than once, or not a bearer token.",
        "Send `Authorization: Bearer` with the JWT, once.";
    JwtInvalid = 70, Request, "jwt_invalid",
        "The token is not a JWT of three sections with JSON inside.",
        "Build the JWT as the NRL API's JWT page describes.";
    JwtClaimInvalid = 71, Request, "jwt_claim_invalid",
        "A claim of the JWT is missing, malformed, out of time or contradicts another.",
        "The answer's diagnostics name the claim.";
    MediaTypeUnsupported = 72, Request, "media_type_unsupported",
        "The body's media type is none that this gateway can check, and it forwards nothing unchecked.",
        "Send the body as application/fhir+json or application/fhir+xml, in UTF-8.";
    BodyTooLarge = 73, Request, "body_too_large",
        "The body is larger than the configuration allows.",
        "Send less, or raise `gateway.max_body`.";
    BodyTimeout = 74, Request, "body_timeout",
        "The body did not arrive in time.",
        "Check the path to the client; `gateway.body_timeout` sets the limit.";
    BodyIdle = 107, Request, "body_idle",
        "Nothing of the body came for too long.",
        "Check the path to the client; `gateway.body_idle_timeout` sets the limit.";
    AnswerStalled = 108, Request, "answer_stalled",
        "The client took nothing of its answer for too long, which was then broken off.",
        "Let the client read its answers; `gateway.answer_timeout` sets the limit.";
    BodyInvalid = 75, Request, "body_invalid",
        "The body is not the resource that the interaction needs.",
        "The answer's diagnostics name the element.";
    BodyMalformed = 89, Request, "body_malformed",
        "The body is not JSON or XML as strictly as its Content-Type promises, or could be read in more than one way.",
        "The answer's diagnostics name the rule and the place; docs/nrl.md lists the rules.";
    NhsNumberInvalid = 105, Request, "nhs_number_invalid",
        "The NHS number in the body or the query is not ten digits.",
        "Send the patient's NHS number without spaces.";
    OrganisationNotFound = 106, Request, "organisation_not_found",
        "The custodian in the body is not an ODS code.",
        "End custodian.reference with the ODS code of the pointer's owner.";
    StatusNotCurrent = 109, Request, "status_not_current",
        "The status of the new pointer is not `current`.",
        "Create pointers with the status `current`; an update withdraws them.";
    HeadTooLarge = 76, Request, "head_too_large",
        "The request's head has more bytes than the configuration allows.",
        "Send less, or raise `gateway.max_head`.";
    TooManyHeaders = 77, Request, "too_many_headers",
        "The request has more header lines than the configuration allows.",
        "Send fewer, or raise `gateway.max_headers`.";
    RequestLineTooLong = 78, Request, "request_line_too_long",
        "The request line is longer than the configuration allows.",
        "Send a shorter target, or raise `gateway.max_request_line`.";
    HeadTooSlow = 79, Request, "head_too_slow",
        "The request's head did not arrive whole in time.",
        "Check the path to the client; `gateway.header_timeout` sets the limit.";
    FramingAmbiguous = 80, Request, "framing_ambiguous",
        "Where the request ends could be understood in more than one way.",
        "Send one Content-Length or one `Transfer-Encoding: chunked`, as RFC 9112 has them; docs/http.md lists the rules.";
    TransferCodingUnknown = 81, Request, "transfer_coding_unknown",
        "The request uses a transfer coding besides `chunked`.",
        "Send the body without it.";
    VersionUnsupported = 82, Request, "version_unsupported",
        "The request is of another version of HTTP than 1.1.",
        "Let the client speak HTTP/1.1.";
    MethodRefused = 83, Request, "method_refused",
        "The method is one that no resource here has, and that would make the gateway a tunnel or a mirror.",
        "Use the methods of the NRL API.";
    TargetRefused = 84, Request, "target_refused",
        "The request's target could be understood as another path than it seems, or is of a form that is not served.",
        "Send the path as the NRL API has it, without dot segments and without encoded delimiters.";
    HostInvalid = 85, Request, "host_invalid",
        "The Host header is missing, sent more than once, not a host, or none of `gateway.hosts`.",
        "Send the gateway's name in it, once.";
    HeaderLookalike = 86, Request, "header_lookalike",
        "A header's name could be taken for that of a header that decides about the request.",
        "Write the header's name as documented, with its hyphens, or leave it out.";
    UpgradeRefused = 87, Request, "upgrade_refused",
        "The client asks for another protocol on this connection.",
        "Let the client speak HTTP/1.1 alone.";
    ExpectationUnknown = 88, Request, "expectation_unknown",
        "The client expects something else than `100-continue`.",
        "Leave the Expect header out.";

    AsidUnknown = 90, Authorisation, "asid_unknown",
        "The requester's ASID is not in the registry (R1).",
        "Register the system in `registry.toml`, if it should have access.";
    AsidInactive = 91, Authorisation, "asid_inactive",
        "The requester's ASID is registered, but switched off.",
        "Set `active = true` in `registry.toml`, if it should have access.";
    AsidFqdnMismatch = 92, Authorisation, "asid_fqdn_mismatch",
        "The client's certificate is not that of the FQDN registered for the ASID.",
        "Send the ASID that belongs to the certificate, or correct the registered FQDN.";
    JwtAsidMismatch = 93, Authorisation, "jwt_asid_mismatch",
        "The ASID in the JWT is not the requester's.",
        "Put the ASID of fromASID or Ssp-From in the claim requesting_system.";
    JwtOdsMismatch = 94, Authorisation, "jwt_ods_mismatch",
        "The ODS code in the JWT is not the one registered for the ASID.",
        "Put the ASID's own ODS code in the claim requesting_organization.";
    InteractionNotAllowed = 95, Authorisation, "interaction_not_allowed",
        "The interaction ID is not associated with the requester's ASID (R2).",
        "Have the interaction added to the ASID, if the system should use it.";
    NotOwner = 96, Authorisation, "not_owner",
        "The pointer's custodian is not the ODS code associated with the requester's ASID (R3, R4, R5).",
        "Only the owner of a pointer may create, supersede, update or delete it.";
    TargetNotOwner = 97, Authorisation, "target_not_owner",
        "The pointer to be superseded belongs to another custodian (R3).",
        "Only the owner of a pointer may supersede it.";
    TargetPatientMismatch = 98, Authorisation, "target_patient_mismatch",
        "The pointer to be superseded belongs to another patient (R3).",
        "A pointer replaces one of the same patient.";
    PointerNotFound = 99, Authorisation, "pointer_not_found",
        "The pointer to be changed does not exist.",
        "Search for the pointer's current id.";
    TargetNotFound = 100, Authorisation, "target_not_found",
        "The pointer to be superseded does not exist, is not current, or is not named unambiguously (R3).",
        "Search for the pointer's current id.";
    PointerNotCurrent = 101, Authorisation, "pointer_not_current",
        "The pointer to be changed is superseded or withdrawn; the client is told that there is none.",
        "Search for the pointer's current id.";
    PointerAmbiguous = 102, Authorisation, "pointer_ambiguous",
        "More than one pointer of the patient has the masterIdentifier that names the one to be changed.",
        "Name the pointer by its id, and look in the record locator for why the identifier is not unique.";
    VersionMismatch = 103, Authorisation, "version_mismatch",
        "If-Match names another version of the pointer than the one that the record locator has.",
        "Read the pointer again, and decide anew.";
    PointerChanged = 104, Authorisation, "pointer_changed",
        "The pointer was changed after it was judged and before the record locator had the request.",
        "Send the request again: it is then judged on the new version.";

    UpstreamUnreachable = 110, Upstream, "upstream_unreachable",
        "The record locator could not be reached.",
        "Check `gateway.upstream` and that the service runs.";
    UpstreamTimeout = 111, Upstream, "upstream_timeout",
        "The record locator did not answer in time.",
        "Check the service's load; `gateway.upstream_timeout` sets the limit.";
    UpstreamInvalid = 112, Upstream, "upstream_invalid",
        "The record locator's answer could not be understood, so nothing was allowed on its word.",
        "Check that `gateway.upstream` is an STU3 record locator.";
    UpstreamReset = 113, Upstream, "upstream_reset",
        "The record locator broke off before its answer was whole.",
        "Look into the service's log at that time; a proxy before it may have closed the connection.";
    UpstreamTls = 114, Upstream, "upstream_tls",
        "The gateway and the record locator could not agree on TLS: a certificate, a name or a version.",
        "The audit log has OpenSSL's words. Check `gateway.upstream_tls` and the service's certificate.";
    UpstreamOverloaded = 116, Upstream, "upstream_overloaded",
        "Every record locator has as many requests under way as it may have.",
        "Try again; `gateway.upstream_max_requests` sets the limit, and more upstreams share the load.";
    UpstreamFraming = 117, Upstream, "upstream_framing",
        "The record locator's answer breaks HTTP/1.1: where it ends, or what it says, can't be told for certain.",
        "Look at what answers at `gateway.upstream`: the audit log says which rule it broke.";
    UpstreamStalled = 118, Upstream, "upstream_stalled",
        "The record locator stopped in the middle of its answer, which was then broken off.",
        "Check the service's load; `gateway.upstream_idle_timeout` sets the limit.";

    Overloaded = 119, Agent, "overloaded",
        "As many requests are under way as the gateway may have.",
        "Try again; `gateway.max_requests` sets the limit.";
    ClientOverloaded = 122, Agent, "client_overloaded",
        "As many requests of this ASID are under way as one may have.",
        "Let the system send fewer requests at once; `gateway.max_requests_per_client` sets the limit.";
    ConnectionRequests = 123, Agent, "connection_requests",
        "The connection was closed after an answer, since it had served as many requests as one may.",
        "Nothing: clients connect anew. `gateway.requests_per_connection` sets the limit.";
    ConnectionAge = 124, Agent, "connection_age",
        "The connection was closed between requests, since it had been open for as long as one may.",
        "Nothing: clients connect anew. `gateway.connection_age` sets the limit.";
    AuditFailed = 115, Agent, "audit_failed",
        "The decision could not be written to the audit log, so its answer was withheld.",
        "Look at the disk of `audit.file`; the agent's log has the system's error.";

    OperatorOrder = 120, Operator, "operator_order",
        "An operator ordered it.",
        "See the audit log for who and when.";
    ControlNoRole = 175, Operator, "control_no_role",
        "A user without a role called the control socket.",
        "Run the command as root, or put the user into `control.group`, to look, or into `control.writers`, to give orders too.";
    ControlReadOnly = 176, Operator, "control_read_only",
        "A user who may only look gave an order on the control socket.",
        "Run the command as root, or put the user into `control.writers` and reload.";
    ControlTakeOver = 177, Operator, "control_take_over",
        "A user who is neither root nor the agent's own wanted to take the agent's sockets over.",
        "Run `spinegate run --take-over` as one of them.";
    ControlMalformed = 178, Operator, "control_malformed",
        "What was sent to the control socket could not be understood.",
        "The answer says what is wrong with it; use the `spinegate` command of the running agent.";
    ControlBusy = 179, Operator, "control_busy",
        "As many callers use the control socket as may at once.",
        "Try again in a moment, or end a command that follows.";
    Authenticated = 121, Agent, "authenticated",
        "A client behind the source has authenticated, so the source is trusted.",
        "Nothing: this is why a trust verdict was reached.";
}

impl Reason {
    /// One more than the largest number that a reason can have: the size of an array indexed by reason.
    pub const SLOTS: u32 = u8::MAX as u32 + 1;

    /// Whose doing it is.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            // Limits and files of ours, among what else the client answers for.
            Self::FilterUnconfigured
            | Self::ConnectionLimit
            | Self::UnauthenticatedLimit
            | Self::HandshakeQueueFull
            | Self::CrlMissing
            | Self::CrlStale => Side::Gateway,
            Self::ClientOverloaded => Side::Client,
            _ => match self.layer() {
                Layer::Upstream => Side::Upstream,
                Layer::Agent | Layer::Operator => Side::Gateway,
                Layer::Filter
                | Layer::Handshake
                | Layer::Certificate
                | Layer::Request
                | Layer::Authorisation => Side::Client,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_numbers_round_trip() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_number(*reason as u8), Some(*reason));
            assert_eq!(Reason::from_code(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::from_number(0), None);
        assert_eq!(Reason::from_code("no_code"), None);
    }
}
