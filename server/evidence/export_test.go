package evidence

// CheckClientData is for the vectors of the WebAuthn specification, whose
// challenges are not hashes of statements.
var CheckClientData = checkClientData

// CheckAuthenticatorData reads authenticator data of an assertion and checks it
// for a relying party.
func CheckAuthenticatorData(raw []byte, rpID string) error {
	data, err := readAuthenticatorData(raw)
	if err != nil {
		return err
	}
	return data.check(rpID)
}

// VerifySignature checks a signature with a COSE key.
func VerifySignature(cose, message, signature []byte) (bool, error) {
	key, err := parsePublicKey(cose)
	if err != nil {
		return false, err
	}
	return key.verify(message, signature), nil
}
