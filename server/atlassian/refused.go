package atlassian

import "errors"

// Why a token is refused. The codes are stable; they are for logs, metrics and tests, and hold
// nothing of the token. A caller is told no more than that its token is bad.
const (
	ReasonAbsent             = "ABSENT"              // there is no token
	ReasonTooLarge           = "TOO_LARGE"           // longer than 16 KiB
	ReasonMalformed          = "MALFORMED"           // not three parts
	ReasonBase64             = "BASE64"              // a part is not strict base64url without padding
	ReasonHeader             = "HEADER"              // the header is not a JSON object
	ReasonClaims             = "CLAIMS"              // the claims are not a JSON object
	ReasonDuplicateKey       = "DUPLICATE_KEY"       // an object of header or claims has a key twice
	ReasonAlgorithm          = "ALGORITHM"           // not signed by RS256
	ReasonType               = "TYPE"                // says that it is something else than a JWT
	ReasonCritical           = "CRITICAL"            // asks for an extension
	ReasonEmbeddedKey        = "EMBEDDED_KEY"        // brings a key, or says where to find one
	ReasonKeyID              = "KEY_ID"              // names no key, or none that could be
	ReasonUnknownKey         = "UNKNOWN_KEY"         // names a key that Atlassian does not publish
	ReasonSignature          = "SIGNATURE"           // the signature is not that key's
	ReasonIssuer             = "ISSUER"              // not issued by Forge
	ReasonAudience           = "AUDIENCE"            // for another app
	ReasonManyAudiences      = "MANY_AUDIENCES"      // for another app too
	ReasonTimes              = "TIMES"               // exp, nbf or iat is absent, no whole number, or they contradict each other
	ReasonExpired            = "EXPIRED"             // exp is over
	ReasonNotYetValid        = "NOT_YET_VALID"       // nbf is still to come
	ReasonIssuedInFuture     = "ISSUED_IN_FUTURE"    // iat is still to come
	ReasonID                 = "ID"                  // jti is absent or malformed
	ReasonIsolatedCloud      = "ISOLATED_CLOUD"      // from an isolated cloud, whose keys are others
	ReasonApp                = "APP"                 // app is absent or malformed
	ReasonAppID              = "APP_ID"              // app.id is another app
	ReasonAppVersion         = "APP_VERSION"         // app.appVersion is malformed
	ReasonEnvironment        = "ENVIRONMENT"         // of another environment of the app
	ReasonInstallation       = "INSTALLATION"        // an installation id is absent or malformed
	ReasonInstallations      = "INSTALLATIONS"       // the installation ids disagree
	ReasonModule             = "MODULE"              // app.module is absent or malformed
	ReasonAPIBaseURL         = "API_BASE_URL"        // an API base URL is absent, malformed or not on the allow-list
	ReasonContext            = "CONTEXT"             // context is no object
	ReasonWorkspace          = "WORKSPACE"           // a workspace is malformed
	ReasonNoWorkspace        = "NO_WORKSPACE"        // no workspace is named
	ReasonWorkspacesDisagree = "WORKSPACES_DISAGREE" // several workspaces are named
	ReasonPrincipal          = "PRINCIPAL"           // the principal is no account id
)

// Refused says that a token is bad, and why. It holds nothing of the token.
type Refused struct{ Reason string }

// Error is safe for logs.
func (r *Refused) Error() string { return "atlassian: invocation token refused: " + r.Reason }

// ErrUnavailable says that Atlassian's keys cannot be had now, so that nothing is known of a token.
// The caller should come again; it is no fault of its token.
var ErrUnavailable = errors.New("atlassian: the keys of invocation tokens are not available")

func refuse(reason string) error { return &Refused{Reason: reason} }
