package gate

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// proveModels fills in of which model the authenticator of each decision's key is, where the rule asks. It
// is judged anew each time, by the metadata that the server has now: what a model is accused of later
// takes its keys out of every verdict that is still to come.
func (g *Gate) proveModels(ctx context.Context, tx *store.Tx, rule approval.Rule, decisions []store.Decision) error {
	if !rule.Needs().Models {
		return nil
	}
	return g.proveAll(ctx, tx, decisions)
}

// proveAll does as proveModels for decisions on many pull requests, whose rules ask, with one statement.
func (g *Gate) proveAll(ctx context.Context, tx *store.Tx, lists ...[]store.Decision) error {
	var ids [][]byte
	for _, decisions := range lists {
		for _, d := range decisions {
			ids = append(ids, d.CredentialID)
		}
	}
	if g.Models == nil || len(ids) == 0 {
		return nil
	}
	keys, err := tx.CredentialsByID(ctx, ids)
	if err != nil {
		return err
	}
	models := make(map[string]string, len(keys))
	for _, key := range keys {
		if models[string(key.ID)], err = g.Model(key); err != nil {
			return err
		}
	}
	for _, decisions := range lists {
		for i, d := range decisions {
			decisions[i].Model = models[string(d.CredentialID)]
		}
	}
	return nil
}

// Model is the AAGUID of a key's authenticator where the attestation of its enrolment proves it by the
// metadata that the server has; empty where nothing does, and for a key that waits.
func (g *Gate) Model(key store.Credential) (string, error) {
	if len(key.Enrolment) == 0 || g.Models == nil {
		return "", nil
	}
	var enrolment evidence.Enrolment
	if err := json.Unmarshal(key.Enrolment, &enrolment); err != nil {
		return "", fmt.Errorf("stored enrolment: %w", err)
	}
	model, err := enrolment.Model(keyOf(key), g.Models)
	if err != nil { // which says why nothing is proved
		return "", nil
	}
	return model.AAGUID, nil
}
