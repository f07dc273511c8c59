// Command signedapproval is a merge gate for Bitbucket Cloud.
package main
