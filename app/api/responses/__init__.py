"""OpenAI's newer dialect: `POST /v1/responses`, and what is kept of an answer afterwards.

Entry points: `create.responses_endpoint` and `stored.router`. A response is a journal: its id is
`resp_<journal>`, and it is kept as long as journals are.
"""
