// The graph.

export default { initialize, render: (context) => showPicture(context) };
