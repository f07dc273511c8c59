// Package atlassian tells who is calling: it verifies the invocation tokens that Forge sends with
// each call to this server, and reads from them the installation, the workspace and the person.
// Nothing else that such a call carries is believed here.
package atlassian
