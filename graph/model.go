package graph

import "github.com/signedapproval/bitbucket/server/store"

type authenticatorModel struct {
	AAGUID      string
	Description *string
}

// model gives an AAGUID what its maker calls the model, as far as this server's snapshot has it.
func (r *resolver) model(aaguid string) authenticatorModel {
	if known, ok := r.gate.Models.Model(aaguid); ok {
		return authenticatorModel{AAGUID: aaguid, Description: &known.Description}
	}
	return authenticatorModel{AAGUID: aaguid}
}

// provedModel is the model that a key's attestation proves it to be of, judged as a verdict would judge it now; nil where
// nothing is proved.
func (r *resolver) provedModel(key store.Credential) (*authenticatorModel, error) {
	aaguid, err := r.gate.Model(key)
	if err != nil || aaguid == "" {
		return nil, err
	}
	return new(r.model(aaguid)), nil
}
