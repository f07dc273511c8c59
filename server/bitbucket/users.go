package bitbucket

import (
	"context"
	"errors"
	"net/url"
)

// User is an account of Bitbucket: a person, a team of old, or an app.
type User struct {
	// UUID is bare and lower case; "" if the answer had none.
	UUID string
	// AccountID is the Atlassian account id, the lasting identity of a person;
	// "" for teams and in some old answers.
	AccountID string
	// DisplayName and Nickname are for people to read and can change.
	DisplayName string
	Nickname    string
	// Type is "user", "team", "app_user" or what Bitbucket adds later.
	Type string
	// AvatarURL is the picture's address; may be "".
	AvatarURL string
}

// Email is an address of the current user.
type Email struct {
	Address string
	// Primary is true for one address.
	Primary bool
	// Confirmed is true if Bitbucket checked that the address is the user's.
	Confirmed bool
}

// CurrentUser returns the account that the token acts as.
// Scope: account. A token of an app's own account may be refused.
func (c *Client) CurrentUser(ctx context.Context) (User, error) {
	const op = "read current user"
	wire, err := get[wireUser](ctx, c, op, nil, "user")
	if err != nil {
		return User{}, err
	}
	user := wire.user()
	if user.UUID == "" {
		return User{}, c.fail(op, errors.New("the user has no UUID"))
	}
	return user, nil
}

// User returns the account with this Atlassian account id.
// Scope: account; read:user:bitbucket for an app.
func (c *Client) User(ctx context.Context, accountID string) (User, error) {
	wire, err := get[wireUser](ctx, c, "read user", nil, "users", accountID)
	return wire.user(), err
}

// Emails returns the addresses of the account that the token acts as, confirmed
// or not. Scope: email.
func (c *Client) Emails(ctx context.Context) ([]Email, error) {
	convert := func(w wireEmail) (Email, error) {
		return Email{Address: w.Email, Primary: w.IsPrimary, Confirmed: w.IsConfirmed}, nil
	}
	var emails []Email
	for email, err := range pages(ctx, c, "read emails", url.Values{"pagelen": {pageLen}}, convert, "user", "emails") {
		if err != nil {
			return nil, err
		}
		emails = append(emails, email)
	}
	return emails, nil
}

type wireEmail struct {
	Email       string `json:"email"`
	IsPrimary   bool   `json:"is_primary"`
	IsConfirmed bool   `json:"is_confirmed"`
}

type wireUser struct {
	Type        string `json:"type"`
	UUID        string `json:"uuid"`
	AccountID   string `json:"account_id"`
	DisplayName string `json:"display_name"`
	Nickname    string `json:"nickname"`
	Username    string `json:"username"` // until 2019
	Links       struct {
		Avatar wireLink `json:"avatar"`
	} `json:"links"`
}

type wireLink struct {
	Href string `json:"href"`
}

func (w wireUser) user() User {
	if w.Nickname == "" {
		w.Nickname = w.Username
	}
	return User{
		UUID: bareUUID(w.UUID), AccountID: w.AccountID, DisplayName: w.DisplayName,
		Nickname: w.Nickname, Type: w.Type, AvatarURL: w.Links.Avatar.Href,
	}
}
