// Package notify carries notices out of the product, to people who are not looking at it: so far by
// mail.
package notify
