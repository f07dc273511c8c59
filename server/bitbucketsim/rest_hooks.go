package bitbucketsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// callHooks finds the list of subscriptions that the path names. Only administrators may see them.
func (s *Sim) callHooks(c *call) (list *[]*hook, r *repository, w *workspace, err error) {
	if c.r.PathValue("repository") == "" {
		if w, err = s.callWorkspace(c); err != nil {
			return nil, nil, nil, err
		}
		if w.members[c.person] != RoleOwner {
			return nil, nil, nil, forbidden("Only owners of the workspace may manage its webhooks.")
		}
		return &w.hooks, nil, w, nil
	}
	if r, err = s.callRepository(c, PermissionAdmin); err != nil {
		return nil, nil, nil, err
	}
	return &r.hooks, r, r.workspace, nil
}

func (s *Sim) callHook(c *call) (*[]*hook, *hook, error) {
	list, _, _, err := s.callHooks(c)
	if err != nil {
		return nil, nil, err
	}
	wanted := strings.Trim(c.r.PathValue("hook"), "{}")
	for _, h := range *list {
		if strings.Trim(h.uuid, "{}") == wanted {
			return list, h, nil
		}
	}
	return nil, nil, notFound("There is no webhook with this id.")
}

func (s *Sim) listHooks(c *call) (*answer, error) {
	list, _, _, err := s.callHooks(c)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, h := range *list {
		items = append(items, s.renderHook(h))
	}
	return s.list(c, standardListing, items)
}

// secretLimit is the number of characters that a webhook's secret may have.
const secretLimit = 128

type hookInput struct {
	Description *string   `json:"description"`
	URL         *string   `json:"url"`
	Active      *bool     `json:"active"`
	Events      *[]string `json:"events"`
	// Secret tells absent, which keeps the secret, from null, which takes it away.
	Secret optionalString `json:"secret"`
}

// optionalString is a JSON string that may be null or absent.
type optionalString struct {
	given bool
	value string
}

// UnmarshalJSON reads null as the empty string.
func (o *optionalString) UnmarshalJSON(raw []byte) error {
	*o = optionalString{given: true}
	return json.Unmarshal(raw, &o.value)
}

func (in *hookInput) check(granted []string, creating bool) error {
	fields := object{}
	if in.URL != nil || creating {
		if in.URL == nil {
			fields["url"] = "required key not provided"
		} else if u, err := url.Parse(*in.URL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			fields["url"] = "Enter a valid URL."
		}
	}
	var missing []string
	if in.Events != nil || creating {
		if in.Events == nil || len(*in.Events) == 0 {
			fields["events"] = "required key not provided"
		} else {
			for _, e := range *in.Events {
				scope, ok := hookEvents[e]
				switch {
				case !ok:
					fields["events"] = "Invalid event: " + e
				case !hasScope(granted, scope) && !slices.Contains(missing, scope):
					missing = append(missing, scope)
				}
			}
		}
	}
	if n := utf8.RuneCountInString(in.Secret.value); n > secretLimit {
		fields["secret"] = fmt.Sprintf("Ensure this value has at most %d characters (it has %d).", secretLimit, n)
	}
	if len(fields) > 0 {
		return &apiError{status: http.StatusBadRequest, message: "Bad request", fields: fields}
	}
	if len(missing) > 0 {
		return missingScopes(granted, append([]string{"webhook"}, missing...)...)
	}
	return nil
}

func (in *hookInput) apply(h *hook) {
	if in.Description != nil {
		h.description = *in.Description
	}
	if in.URL != nil {
		h.url = *in.URL
	}
	if in.Active != nil {
		h.active = *in.Active
	}
	if in.Events != nil {
		h.events = slices.Compact(slices.Sorted(slices.Values(*in.Events)))
	}
	if in.Secret.given {
		h.secret = in.Secret.value
	}
}

// maxHooks is how many webhooks Bitbucket allows on one repository or workspace.
const maxHooks = 50

func (s *Sim) createHook(c *call) (*answer, error) {
	list, r, w, err := s.callHooks(c)
	if err != nil {
		return nil, err
	}
	var in hookInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.check(c.grant.scopes, true); err != nil {
		return nil, err
	}
	if len(*list) >= maxHooks {
		return nil, badRequest(fmt.Sprintf("There are %d webhooks already, which is the limit.", maxHooks))
	}
	h := &hook{uuid: newUUID(), active: true, repository: r, workspace: w, created: s.now()}
	in.apply(h)
	*list = append(*list, h)
	body := s.renderHook(h)
	return &answer{status: http.StatusCreated, body: body, location: selfLink(body)}, nil
}

func selfLink(o object) string {
	links, _ := o["links"].(object)
	self, _ := links["self"].(object)
	href, _ := self["href"].(string)
	return href
}

func (s *Sim) getHook(c *call) (*answer, error) {
	_, h, err := s.callHook(c)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderHook(h)}, nil
}

func (s *Sim) updateHook(c *call) (*answer, error) {
	_, h, err := s.callHook(c)
	if err != nil {
		return nil, err
	}
	var in hookInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.check(c.grant.scopes, false); err != nil {
		return nil, err
	}
	in.apply(h)
	return &answer{body: s.renderHook(h)}, nil
}

func (s *Sim) deleteHook(c *call) (*answer, error) {
	list, h, err := s.callHook(c)
	if err != nil {
		return nil, err
	}
	h.active = false
	*list = slices.DeleteFunc(*list, func(x *hook) bool { return x == h })
	return &answer{status: http.StatusNoContent}, nil
}
