// Drives a Bitbucket through a whole pull request with the npm package "bitbucket", and prints what it saw as one
// line of JSON. Argument: the base URL of the REST API. Environment: ALICE, BOB and CAROL, an access token each.
const assert = require('node:assert/strict')
const { Bitbucket } = require('bitbucket')

const baseUrl = process.argv[2]
const as = (token) => new Bitbucket({ baseUrl, auth: { token }, notice: false })
const alice = as(process.env.ALICE)
const bob = as(process.env.BOB)
const carol = as(process.env.CAROL)
const at = { workspace: 'acme', repo_slug: 'rocket' }

const refused = async (promise, status) => {
  const err = await promise.then(() => null, (e) => e)
  assert.ok(err, `a refusal with ${status} was expected`)
  assert.equal(err.status, status)
  return err
}

const main = async () => {
  const me = (await alice.users.getAuthedUser({})).data
  assert.equal(me.nickname, 'alice')
  assert.equal((await alice.users.listEmailsForAuthedUser({})).data.values[0].email, 'alice@example.com')
  const members = (await alice.workspaces.getMembersForWorkspace({ workspace: 'acme' })).data
  assert.ok(members.values.some((m) => m.user.uuid === me.uuid))

  const repository = (await alice.repositories.get(at)).data
  assert.equal(repository.full_name, 'acme/rocket')
  const branch = (await bob.refs.getBranch({ ...at, name: 'feature' })).data

  await alice.branchrestrictions.create({
    ...at,
    _body: { type: 'branchrestriction', kind: 'require_passing_builds_to_merge', branch_match_kind: 'glob', pattern: 'main', value: 1 },
  })
  await alice.branchrestrictions.create({
    ...at,
    _body: { type: 'branchrestriction', kind: 'enforce_merge_checks', branch_match_kind: 'glob', pattern: 'main' },
  })

  const opened = (
    await bob.pullrequests.create({
      ...at,
      _body: {
        type: 'pullrequest',
        title: 'A nozzle',
        source: { branch: { name: 'feature' } },
        destination: { branch: { name: 'main' } },
        reviewers: [{ uuid: me.uuid }],
      },
    })
  ).data
  const pr = { ...at, pull_request_id: opened.id }
  assert.equal(opened.state, 'OPEN')

  const diff = (await carol.pullrequests.getDiff(pr)).data
  assert.match(diff, /^diff --git a\/src\/nozzle.go b\/src\/nozzle.go\nnew file mode 100644\n/)
  const stat = (await carol.pullrequests.getDiffStat(pr)).data
  assert.equal(stat.values[0].new.path, 'src/nozzle.go')
  const commits = (await carol.pullrequests.listCommits(pr)).data
  assert.equal(commits.values[0].hash, branch.target.hash)
  const commit = (await carol.commits.get({ ...at, commit: opened.source.commit.hash })).data
  assert.equal(commit.hash, branch.target.hash)

  const comment = (await carol.pullrequests.createComment({ ...pr, _body: { type: 'pullrequest_comment', content: { raw: 'Why?' } } })).data
  assert.equal((await carol.pullrequests.listComments(pr)).data.values[0].id, comment.id)
  assert.equal((await carol.pullrequests.createApproval(pr)).data.approved, true)
  await refused(alice.pullrequests.merge({ ...pr, _body: { type: 'pullrequest_merge_parameters' } }), 400)

  const on = { ...at, commit: branch.target.hash }
  await carol.commitstatuses.createBuildStatus({
    ...on,
    _body: { type: 'build', key: 'ci', state: 'INPROGRESS', url: 'https://ci.example.com/1', refname: 'feature' },
  })
  await refused(
    bob.commitstatuses.updateBuildStatus({ ...on, key: 'ci', _body: { type: 'build', key: 'ci', state: 'FAILED' } }),
    403,
  )
  await refused(alice.pullrequests.merge({ ...pr, _body: { type: 'pullrequest_merge_parameters' } }), 400)
  await carol.commitstatuses.updateBuildStatus({ ...on, key: 'ci', _body: { type: 'build', key: 'ci', state: 'SUCCESSFUL' } })
  const statuses = (await bob.pullrequests.listStatuses(pr)).data
  assert.equal(statuses.values[0].state, 'SUCCESSFUL')

  const merged = (
    await alice.pullrequests.merge({ ...pr, _body: { type: 'pullrequest_merge_parameters', merge_strategy: 'merge_commit' } })
  ).data
  assert.equal(merged.state, 'MERGED')
  const main = (await bob.refs.getBranch({ ...at, name: 'main' })).data
  assert.ok(main.target.hash.startsWith(merged.merge_commit.hash))
  assert.deepEqual(main.target.parents.map((p) => p.hash)[1], branch.target.hash)

  const first = await bob.repositories.listCommits({ ...at, pagelen: 1 })
  assert.equal(bob.hasNextPage(first.data), true)
  const second = await bob.getNextPage(first.data)
  assert.notEqual(second.data.values[0].hash, first.data.values[0].hash)

  console.log(JSON.stringify({ state: merged.state, head: branch.target.hash, main: main.target.hash }))
}

main().catch((err) => {
  console.error(err.status ? `${err.status}: ${JSON.stringify(err.error)}\n${err.stack}` : err)
  process.exit(1)
})
