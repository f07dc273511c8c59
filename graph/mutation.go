package graph

import "github.com/signedapproval/bitbucket/server/refusal"

// problems is the part that all payloads have.
type problems struct{ UserErrors []userError }

func (p *problems) refuse(errors []userError) { p.UserErrors = errors }

type userError struct {
	Code    string
	Message string
	Path    []string
}

// mutate runs a mutation that fills its payload. A refusal becomes userErrors of a payload that holds
// nothing else; every other error is the field's.
func mutate[P any, PP interface {
	*P
	refuse([]userError)
}](change func(PP) error,
) (PP, error) {
	payload := PP(new(P))
	err := change(payload)
	if err == nil {
		return payload, nil
	}
	no := refusal.Of(err)
	if no == nil {
		return nil, err
	}
	payload = PP(new(P))
	payload.refuse([]userError{{Code: no.Code, Message: no.Message, Path: no.Path}})
	return payload, nil
}
